// Threads: those of the OpenMP runtime that is already in the process (torch's), never a pool of our own.
#pragma once

namespace elman {

// Calls work(context, part) once for each part in [0, parts), on up to `parts` threads. Parts must not wait for one
// another: in a forked child, inside another parallel region, or where there is no runtime they run one after another.
using PartWork = void (*)(void* context, int part);
void in_parallel(int parts, PartWork work, void* context);

template <class F> void in_parallel(int parts, F&& work) {
  in_parallel(parts, [](void* context, int part) { (*static_cast<F*>(context))(part); }, &work);
}

// Calls work(context, thread, threads) once on each of `threads` <= wanted threads, which run at the same time and may
// wait for one another.
using TeamWork = void (*)(void* context, int thread, int threads);
void in_team(int wanted, TeamWork work, void* context);

template <class F> void in_team(int wanted, F&& work) {
  in_team(wanted, [](void* context, int thread, int threads) { (*static_cast<F*>(context))(thread, threads); }, &work);
}

// Lets another thread have the processor.
void yield_processor();

}  // namespace elman
