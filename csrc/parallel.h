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

}  // namespace elman
