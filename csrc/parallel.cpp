#include "parallel.h"

#include <dlfcn.h>
#include <pthread.h>
#include <sched.h>

#include <atomic>

namespace elman {

namespace {

// The two entry points of GNU OpenMP that we need (LLVM's runtime has them as well).
struct Runtime {
  void (*parallel)(void (*work)(void*), void* context, unsigned threads, unsigned flags) = nullptr;
  int (*thread)() = nullptr;
  int (*threads)() = nullptr;

  explicit operator bool() const { return parallel && thread && threads; }
};

template <class F> void find(void* library, const char* name, F& function) {
  function = reinterpret_cast<F>(dlsym(library, name));
}

Runtime load(void* library) {
  Runtime runtime;
  find(library, "GOMP_parallel", runtime.parallel);
  find(library, "omp_get_thread_num", runtime.thread);
  find(library, "omp_get_num_threads", runtime.threads);
  return runtime;
}

// A child of fork() has the runtime's memory but not its threads; waiting for them would last for ever.
std::atomic<bool> forked{false};
[[maybe_unused]] const int fork_watched = pthread_atfork(nullptr, nullptr, [] { forked = true; });

// Looked up at first use and not by the linker: torch brings its own copy of the runtime, and two pools of spinning
// threads in one process take twice the time. Without torch the system's library serves.
const Runtime& runtime() {
  static const Runtime found = [] {
    if (const Runtime loaded = load(RTLD_DEFAULT)) return loaded;
    void* library = dlopen("libgomp.so.1", RTLD_NOW | RTLD_LOCAL);
    return library ? load(library) : Runtime{};
  }();
  return found;
}

struct Team {
  const Runtime& runtime;
  TeamWork work;
  void* context;
};

void run_team(void* argument) {
  const Team& team = *static_cast<Team*>(argument);
  team.work(team.context, team.runtime.thread(), team.runtime.threads());
}

}  // namespace

void in_team(int wanted, TeamWork work, void* context) {
  if (wanted > 1 && runtime() && !forked) {
    Team team{runtime(), work, context};
    return runtime().parallel(run_team, &team, unsigned(wanted), 0);
  }
  work(context, 0, 1);
}

// The team may be smaller than asked.
void in_parallel(int parts, PartWork work, void* context) {
  in_team(parts, [&](int thread, int threads) {
    for (int part = thread; part < parts; part += threads) work(context, part);
  });
}

void yield_processor() { sched_yield(); }

}  // namespace elman
