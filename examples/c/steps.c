/* Runs a frozen model step by step on numbers from standard input, and prints what it says: one line a step.
 *
 *     cc -std=c99 steps.c -lelman_runtime -o steps
 *     python -c "import elman; elman.export(elman.GRU(2, 3), 'gru.elman')"
 *     printf '0.5 1\n0 -1\n' | ./steps gru.elman
 */
#include <elman.h>
#include <stdio.h>
#include <stdlib.h>

static int failed(const char *what) {
  fprintf(stderr, "%s: %s\n", what, elman_error());
  return 1;
}

int main(int argc, char **argv) {
  elman_model *model = NULL;
  elman_stream *stream = NULL;
  elman_array x, y;
  float *in, *out;
  int64_t i;

  if (argc != 2) {
    fprintf(stderr, "usage: %s MODEL < numbers\n", argv[0]);
    return 2;
  }
  if (elman_load(argv[1], &model)) return failed(argv[1]);
  if (elman_open(model, 1, &stream)) return failed(argv[1]);
  if (elman_describe(model, ELMAN_INPUT, 0, &x) || elman_describe(model, ELMAN_OUTPUT, 0, &y)) return failed(argv[1]);
  if (x.type != ELMAN_FLOAT || y.type != ELMAN_FLOAT) {
    fprintf(stderr, "%s: its numbers are not floats\n", argv[1]);
    return 1;
  }
  in = malloc((size_t)x.width * sizeof *in);
  out = malloc((size_t)y.width * sizeof *out);
  if (!in || !out) return 1;

  for (;;) {
    for (i = 0; i < x.width && scanf("%f", &in[i]) == 1; ++i) {
    }
    if (i < x.width) break;
    if (elman_step(stream, in, out)) return failed(argv[1]);
    for (i = 0; i < y.width; ++i) printf(i ? " %.9g" : "%.9g", out[i]);
    putchar('\n');
  }

  free(in);
  free(out);
  elman_close(stream);
  elman_free(model);
  return 0;
}
