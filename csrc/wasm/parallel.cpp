// One thread: a page has no other to share its memory with.
#include "parallel.h"

namespace elman {

void in_team(int, TeamWork work, void* context) { work(context, 0, 1); }

void in_parallel(int parts, PartWork work, void* context) {
  for (int part = 0; part < parts; ++part) work(context, part);
}

void yield_processor() {}

}  // namespace elman
