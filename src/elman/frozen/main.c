/* Runs a frozen model on numbers from standard input, and prints what it says.
 *
 *     main [MODEL] < numbers        MODEL: model.elman where it is not given
 *
 * A line is one step: the numbers of all inputs, one behind the other, set apart by spaces. A model that runs one step at a
 * time answers each line as it comes; another reads all of them first. An answer is a line of numbers: the outputs of a
 * step, and at the end those that are one for the whole sequence.
 */
#include <elman.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 16 }; /* inputs, and outputs */

static elman_model *model;
static elman_array in[MOST], out[MOST];
static int ins, outs;

static int failed(const char *what) {
  fprintf(stderr, "%s\n", what);
  return 1;
}

static size_t size_of(elman_type type) { return type == ELMAN_FLOAT ? sizeof(float) : sizeof(double); }

static size_t bytes_of(const elman_array *array) { return (size_t)array->width * size_of(array->type); }

/* The arrays of a role; -1 where there are too many. */
static int describe(elman_role role, elman_array *to) {
  const int64_t count = elman_count(model, role);
  int64_t i;
  if (count < 0 || count > MOST) return -1;
  for (i = 0; i < count; ++i)
    if (elman_describe(model, role, i, &to[i])) return -1;
  return (int)count;
}

static int read_number(elman_type type, void *to) {
  switch (type) {
    case ELMAN_FLOAT: return scanf("%f", (float *)to) == 1;
    case ELMAN_DOUBLE: return scanf("%lf", (double *)to) == 1;
    case ELMAN_INT64: return scanf("%" SCNd64, (int64_t *)to) == 1;
  }
  return 0;
}

static void print_array(const elman_array *array, const char *from, int first) {
  int64_t i;
  for (i = 0; i < array->width; ++i, from += size_of(array->type)) {
    if (!first || i) putchar(' ');
    if (array->type == ELMAN_FLOAT) printf("%.9g", (double)*(const float *)(const void *)from);
    else if (array->type == ELMAN_DOUBLE) printf("%.17g", *(const double *)(const void *)from);
    else printf("%" PRId64, *(const int64_t *)(const void *)from);
  }
}

/* The next step into `to`, one place for each input: 1, or 0 at the end, or -1 for what is no whole step. */
static int read_step(char *const *to) {
  int64_t k, read = 0, all = 0;
  int i;
  for (i = 0; i < ins; ++i) all += in[i].width;
  for (i = 0; i < ins; ++i)
    for (k = 0; k < in[i].width; ++k, ++read)
      if (!read_number(in[i].type, to[i] + (size_t)k * size_of(in[i].type))) {
        if (!read && feof(stdin)) return 0;
        fprintf(stderr, "a step is %" PRId64 " numbers; the last one has %" PRId64 "\n", all, read);
        return -1;
      }
  return 1;
}

static int run_steps(char **x, char **y) {
  elman_stream *stream = NULL;
  int read, i;
  if (elman_open(model, 1, &stream)) return failed(elman_error());
  while ((read = read_step(x)) > 0) {
    if (elman_step_all(stream, (const void *const *)x, (void *const *)y)) {
      elman_close(stream);
      return failed(elman_error());
    }
    for (i = 0; i < outs; ++i) print_array(&out[i], y[i], i == 0);
    putchar('\n');
    fflush(stdout);
  }
  elman_close(stream);
  return read < 0;
}

static int run_whole(char **x, char **y) {
  elman_sequence sequence;
  int64_t steps = 0, room = 0, t;
  char *at[MOST];
  int read, i, first;
  for (;;) {
    if (steps == room) {
      room = room ? 2 * room : 64;
      for (i = 0; i < ins; ++i) {
        char *more = realloc(x[i], (size_t)room * bytes_of(&in[i]));
        if (!more) return failed("there is not enough memory");
        x[i] = more;
      }
    }
    for (i = 0; i < ins; ++i) at[i] = x[i] + (size_t)steps * bytes_of(&in[i]);
    read = read_step(at);
    if (read < 0) return 1;
    if (!read) break;
    ++steps;
  }
  if (!steps) return 0;
  for (i = 0; i < outs; ++i) {
    char *more = realloc(y[i], (out[i].per_sequence ? 1 : (size_t)steps) * bytes_of(&out[i]));
    if (!more) return failed("there is not enough memory");
    y[i] = more;
  }
  memset(&sequence, 0, sizeof sequence);
  sequence.steps = steps;
  sequence.batch = 1;
  sequence.x = (const void *const *)x;
  sequence.y = (void *const *)y;
  if (elman_run(model, &sequence)) return failed(elman_error());
  for (t = 0; t <= steps; ++t) { /* the last line: what is one for the whole sequence */
    for (i = 0, first = 1; i < outs; ++i)
      if (!out[i].per_sequence == (t < steps)) {
        print_array(&out[i], y[i] + (t < steps ? (size_t)t * bytes_of(&out[i]) : 0), first);
        first = 0;
      }
    if (!first) putchar('\n');
  }
  return 0;
}

int main(int argc, char **argv) {
  char *x[MOST] = {0}, *y[MOST] = {0};
  int i, code;
  if (argc > 2) {
    fprintf(stderr, "usage: %s [MODEL] < numbers\n", argv[0]);
    return 2;
  }
  if (elman_load(argc == 2 ? argv[1] : "model.elman", &model)) return failed(elman_error());
  if (elman_count(model, ELMAN_CONTEXT)) return failed("this model has a context, which this program does not read");
  ins = describe(ELMAN_INPUT, in);
  outs = describe(ELMAN_OUTPUT, out);
  if (ins < 1 || outs < 1) return failed("this model has more inputs or outputs than this program reads");
  for (i = 0; i < ins; ++i)
    if (!(x[i] = malloc(bytes_of(&in[i])))) return failed("there is not enough memory");
  for (i = 0; i < outs; ++i)
    if (!(y[i] = malloc(bytes_of(&out[i])))) return failed("there is not enough memory");
  code = elman_can_step(model) ? run_steps(x, y) : run_whole(x, y);
  for (i = 0; i < ins; ++i) free(x[i]);
  for (i = 0; i < outs; ++i) free(y[i]);
  elman_free(model);
  return code;
}
