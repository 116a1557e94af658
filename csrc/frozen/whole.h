// A model run over whole sequences.
#pragma once

#include "elman.h"
#include "frozen/model.h"

namespace elman::frozen {

// Throws Refusal before any work, std::bad_alloc.
void run_whole(const Model& model, const elman_sequence& given);

}  // namespace elman::frozen
