/* elman.h: trained recurrent networks from C, without Python and without torch.
 *
 * A frozen model (`elman.export(model, "model.elman")`, or `elman export RUN --to frozen`) is one file. This library
 * reads it and runs it, one step at a time or over whole sequences. C99; C++ may include it as it is.
 *
 *     elman_model *model;
 *     elman_stream *stream;
 *     float x[5], y[7];
 *     if (elman_load("model.elman", &model) || elman_open(model, 1, &stream)) {
 *       fprintf(stderr, "%s\n", elman_error());
 *       return 1;
 *     }
 *     while (next_input(x)) {
 *       elman_step(stream, x, y);
 *       use(y);
 *     }
 *     elman_close(stream);
 *     elman_free(model);
 *
 * Arrays. A model has inputs, outputs, states and contexts, each with a name, a type and a width: the number of its
 * elements for one row, where a row is one step of one sequence. `elman_describe` tells them. Memory that is handed in or
 * out is contiguous, row-major, of exactly that type, aligned to its elements:
 *     one step      (batch, width)
 *     a sequence    (steps, batch, width)     time comes first
 *     a state       (batch, width)            so too a context, and an output that is one for each sequence
 * Types are float or double as the model was, and int64_t for tokens. What the library writes must overlap nothing else.
 *
 * Errors. What can fail returns an `elman_status`, 0 for success; `elman_error()` then has one sentence about it. Nothing
 * is done before arguments are checked, no exception leaves the library, and it prints nothing.
 *
 * Threads. A model does not change once it is loaded: any number of streams and threads may use it at once. A stream belongs to
 * one thread at a time. The text of `elman_error()` is each thread's own.
 *
 * Memory. `elman_step`, `elman_step_all`, `elman_step_rows`, and what reads or writes a state take no memory: all of it
 * is taken by `elman_open`.
 *
 * The numbers are those of the layer in Python, bit for bit on the same instruction set (`elman_isa()`; the environment
 * variable ELMAN_ISA chooses another: avx512, avx2, portable). They depend neither on the batch a row is in, nor on
 * threads, nor on how a sequence is cut into calls.
 */
#ifndef ELMAN_H
#define ELMAN_H

#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32)
#define ELMAN_API
#else
#define ELMAN_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef enum elman_status {
  ELMAN_OK = 0,
  ELMAN_BAD_ARGUMENT = 1, /* a null pointer, a size, an index, a token that is not in the vocabulary */
  ELMAN_CANNOT_READ = 2,  /* no such file, or the system does not hand it out */
  ELMAN_DAMAGED = 3,      /* no frozen model, cut off, or changed: the checksum of all bytes tells */
  ELMAN_NEWER = 4,        /* made by a newer version, in a form or with an operation that this one does not know */
  ELMAN_UNFIT = 5,        /* this model cannot do what it is asked for, such as single steps of a backward direction */
  ELMAN_NO_MEMORY = 6,
  ELMAN_INTERNAL = 7 /* a fault of the library */
} elman_status;

typedef enum elman_role { ELMAN_INPUT = 0, ELMAN_OUTPUT = 1, ELMAN_STATE = 2, ELMAN_CONTEXT = 3 } elman_role;

typedef enum elman_type { ELMAN_FLOAT = 0, ELMAN_DOUBLE = 1, ELMAN_INT64 = 2 } elman_type;

typedef struct elman_model elman_model;
typedef struct elman_stream elman_stream;

/* What an array is. name and shape live as long as the model. */
typedef struct elman_array {
  const char *name;
  elman_type type;
  int64_t width;        /* elements a row: the product of the shape */
  int32_t dims;         /* of the shape of one row; 0 for a single number */
  const int64_t *shape; /* [dims] */
  int32_t per_sequence; /* 1: an output that is one for each sequence, not for each step */
} elman_array;

/* The version of the library, such as "0.1.0", and the instruction set that it runs on here. */
ELMAN_API const char *elman_version(void);
ELMAN_API const char *elman_isa(void);

/* A sentence about the last call of this thread that failed; empty before any has. Valid until the next one does. */
ELMAN_API const char *elman_error(void);

/* ---- models */

/* Reads a file, or a copy of `size` bytes. *model is written only on success; free it by elman_free. */
ELMAN_API elman_status elman_load(const char *path, elman_model **model);
ELMAN_API elman_status elman_load_memory(const void *bytes, size_t size, elman_model **model);

/* Streams may outlive the model that they came from: its memory goes with the last of them. Null is allowed. */
ELMAN_API void elman_free(elman_model *model);

/* How many arrays of a role there are (-1 for an unknown role), and what one of them is. */
ELMAN_API int64_t elman_count(const elman_model *model, elman_role role);
ELMAN_API elman_status elman_describe(const elman_model *model, elman_role role, int64_t index, elman_array *array);

/* What else the file says, by a key: "task", "made by", "labels" (a JSON list), "tokenizer" (JSON), ...; null where it
 * says nothing. Lives as long as the model. */
ELMAN_API const char *elman_text(const elman_model *model, const char *key);

/* 1 where the model can be run one step at a time: no direction of it begins at a sequence's end, and no output needs
 * the whole sequence. */
ELMAN_API int elman_can_step(const elman_model *model);

/* ---- one step at a time */

/* A stream of `batch` rows, each a sequence of its own, in the states that the model begins with. */
ELMAN_API elman_status elman_open(const elman_model *model, int64_t batch, elman_stream **stream);
ELMAN_API void elman_close(elman_stream *stream);

/* The next step of all rows, for a model of one input and one output: x (batch, width) -> y (batch, width). */
ELMAN_API elman_status elman_step(elman_stream *stream, const void *x, void *y);

/* The same for any model: one pointer for each input, and for each output. */
ELMAN_API elman_status elman_step_all(elman_stream *stream, const void *const *xs, void *const *ys);

/* The next step of some rows, the others stay where they are. rows: `count` different indices of rows, in any order; row
 * k of each x and y, (count, width), is that of rows[k]. */
ELMAN_API elman_status elman_step_rows(elman_stream *stream, int64_t count, const int64_t *rows, const void *const *xs,
                                       void *const *ys);

/* The state as it is now, (batch, width), and another one in its place. */
ELMAN_API elman_status elman_get_state(const elman_stream *stream, int64_t index, void *to);
ELMAN_API elman_status elman_set_state(elman_stream *stream, int64_t index, const void *from);

/* All states of one row, one behind the other: to keep a sequence, and to go on with it in any row of any stream of the
 * same model. elman_row_size: how many bytes that is. */
ELMAN_API size_t elman_row_size(const elman_model *model);
ELMAN_API elman_status elman_get_row(const elman_stream *stream, int64_t row, void *to);
ELMAN_API elman_status elman_set_row(elman_stream *stream, int64_t row, const void *from);

/* Back to where the model begins: all rows, or with `rows` [batch] those whose byte is not 0. */
ELMAN_API elman_status elman_reset(elman_stream *stream, const unsigned char *rows);

/* What stays the same over the steps, one pointer (batch, width) for each context; copied. A model with contexts takes no
 * step before this. */
ELMAN_API elman_status elman_set_context(elman_stream *stream, const void *const *contexts);

/* ---- whole sequences */

/* A batch of sequences. What need not be given may be null (the struct zeroed but for what is meant). */
typedef struct elman_sequence {
  int64_t steps, batch;
  const int64_t *lengths;      /* [batch], 0..steps; null: all are `steps` long. Behind its end a row gives zeros. */
  const void *const *x;        /* one (steps, batch, width) for each input */
  void *const *y;              /* one (steps, batch, width), or (batch, width), for each output */
  const void *const *context;  /* one (batch, width) for each context */
  const void *const *initial;  /* one (batch, width) for each state; null: where the model begins */
  void *const *final;          /* one (batch, width) for each state; null: not wanted */
  int threads;                 /* at most so many share the rows (where an OpenMP runtime is found); 0 is 1 */
} elman_sequence;

/* Runs all steps, in both directions where the model has them. */
ELMAN_API elman_status elman_run(const elman_model *model, const elman_sequence *sequence);

#ifdef __cplusplus
}
#endif

#endif
