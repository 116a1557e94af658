// The instruction sets this build has, and the one that this machine runs.
#pragma once

#include <string>
#include <vector>

#include "plan.h"

namespace elman {

// Best first; only those the machine can run.
std::vector<const Isa*> available_isas();

// By name; "" is the best one. Throws std::invalid_argument for a name that is not available.
const Isa& find_isa(const std::string& name);

}  // namespace elman
