#include "isa.h"

#include <stdexcept>

namespace elman {

namespace portable {
extern const Isa isa;
}
#if defined(ELMAN_X86)
namespace avx2 {
extern const Isa isa;
}
namespace avx512 {
extern const Isa isa;
}
#endif

std::vector<const Isa*> available_isas() {
  std::vector<const Isa*> found;
#if defined(ELMAN_X86)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512vl"))
    found.push_back(&avx512::isa);
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) found.push_back(&avx2::isa);
#endif
  found.push_back(&portable::isa);
  return found;
}

const Isa& find_isa(const std::string& name) {
  const std::vector<const Isa*> found = available_isas();
  if (name.empty()) return *found.front();
  std::string names;
  for (const Isa* isa : found) {
    if (name == isa->name) return *isa;
    names += (names.empty() ? "" : ", ") + std::string(isa->name);
  }
  throw std::invalid_argument("instruction set '" + name + "' is not available here, expected one of: " + names);
}

}  // namespace elman
