// Compiled once per instruction set, with -DELMAN_ISA_NAMESPACE=... and that set's flags.
#include "loop.h"
#if !defined(__wasm__)
#include "entropy.h"
#include "sums.h"
#endif

namespace elman::ELMAN_ISA_NAMESPACE {

#define ELMAN_TEXT(x) #x
#define ELMAN_NAME(x) ELMAN_TEXT(x)

template <class V> Int panel_columns_for(Int rows) { return panel_vectors_for(rows) * V::N; }

#if defined(__wasm__)
// Nothing learns there, and a page is loaded: no sums over rows and no losses.
template <class V> inline constexpr Engine<typename V::Scalar> engine = {
    panel_columns_for<V>, pack<V>, packed_size<V>, run_task<V>, run_tasks<V>, nullptr, nullptr, nullptr, nullptr};
#else
template <class V> inline constexpr Engine<typename V::Scalar> engine = {
    panel_columns_for<V>, pack<V>, packed_size<V>, run_task<V>, run_tasks<V>, run_sums<V>, sums_scratch<V>,
    run_entropy<V>, run_entropy_gradient<V>};
#endif

extern const Isa isa;
const Isa isa = {ELMAN_NAME(ELMAN_ISA_NAMESPACE), engine<Vec<float>>, engine<Vec<double>>};

}  // namespace elman::ELMAN_ISA_NAMESPACE
