#include "sums.h"

#include <algorithm>
#include <memory>

#include "buffer.h"
#include "isa.h"
#include "parallel.h"
#include "reader.h"

namespace elman {

namespace {

constexpr Int largest_stride = Int(1) << 40;

void check(const char* what, std::uintptr_t address, Int stride, Int width, Int size) {
  if (width < 1) refuse(std::string(what) + " has " + text(width) + " columns, expected 1 or more");
  if (!address || address % std::uintptr_t(size)) refuse(std::string(what) + " has no address, or one between two elements");
  if (stride < width || stride > largest_stride)
    refuse(std::string(what) + " has the stride " + text(stride) + ", expected its width " + text(width) + " or more");
}

void check(Int rows, const std::vector<RowSumMemory>& jobs, int threads, Int size) {
  if (rows < 1) refuse("rows = " + text(rows) + ", expected 1 or more");
  if (threads < 1) refuse("threads = " + text(threads) + ", expected 1 or more");
  for (const RowSumMemory& job : jobs) {
    check("a", job.a, job.a_stride, job.N, size);
    for (const ColumnsMemory& columns : job.columns) {
      if (columns.factor) check("factor", columns.factor, columns.factor_stride, job.N, size);
      check("out", columns.out, job.N, job.N, size);
    }
    for (const ProductMemory& product : job.products) {
      check("b", product.b, product.b_stride, product.M, size);
      check("out", product.out, product.M, product.M, size);
    }
  }
}

template <class T> T* at(std::uintptr_t address) { return reinterpret_cast<T*>(address); }

template <class T> bool same_products(const RowSum<T>& one, const RowSum<T>& other) {
  if (one.product_count != other.product_count) return false;
  for (int i = 0; i < one.product_count; ++i) {
    const SummedProduct<T>&p = one.products[i], &q = other.products[i];
    if (p.b != q.b || p.b_stride != q.b_stride || p.M != q.M) return false;
  }
  return true;
}

template <class T> class EngineSums : public Sums {
 public:
  EngineSums(const Engine<T>& engine, Int rows, const std::vector<RowSumMemory>& given, bool adds, int threads)
      : engine_(engine) {
    for (const RowSumMemory& job : given) {
      auto& own = products_.emplace_back();
      for (const auto& p : job.products) own.push_back({at<const T>(p.b), p.b_stride, p.M, at<T>(p.out)});
      auto& own_columns = columns_.emplace_back();
      for (const auto& c : job.columns) own_columns.push_back({at<const T>(c.factor), c.factor_stride, at<T>(c.out)});
    }
    Int work = 0, scratch_size = 0;
    for (std::size_t i = 0; i < given.size(); ++i) {
      const RowSumMemory& job = given[i];
      jobs_.push_back({rows, job.N, at<const T>(job.a), job.a_stride, columns_[i].data(), int(columns_[i].size()),
                       products_[i].data(), int(products_[i].size()), adds});
      scratch_size = std::max(scratch_size, engine.sums_scratch(jobs_.back()));
      for (const auto& p : products_[i]) work += rows * job.N * p.M;
      work += rows * job.N;
    }
    constexpr Int worth_a_thread = 1 << 15;  // multiplications
    parts_ = int(std::clamp<Int>(work / worth_a_thread, 1, threads));
    for (int part = 0; part < parts_; ++part) scratch_.push_back(std::make_unique<Buffer<T>>(scratch_size));
  }

  int parts() const override { return parts_; }

  void run_part(int part) const override {
    T* const memory = scratch_[std::size_t(part)]->get();
    for (std::size_t i = 0, end; i < jobs_.size(); i = end) {
      Int columns = jobs_[i].N;
      for (end = i + 1; end < jobs_.size() && same_products(jobs_[i], jobs_[end]); ++end) columns += jobs_[end].N;
      engine_.sums(&jobs_[i], int(end - i), columns * part / parts_, columns * (part + 1) / parts_, memory);
    }
  }

 private:
  const Engine<T>& engine_;
  std::vector<std::vector<SummedProduct<T>>> products_;
  std::vector<std::vector<SummedColumns<T>>> columns_;
  std::vector<RowSum<T>> jobs_;
  std::vector<std::unique_ptr<Buffer<T>>> scratch_;
  int parts_ = 1;
};

}  // namespace

std::unique_ptr<Sums> make_sums(Number number, const Isa& isa, Int rows, const std::vector<RowSumMemory>& jobs, bool adds,
                                int threads) {
  check(rows, jobs, threads, element_size(number));
  if (number == Number::f32) return std::make_unique<EngineSums<float>>(isa.f32, rows, jobs, adds, threads);
  return std::make_unique<EngineSums<double>>(isa.f64, rows, jobs, adds, threads);
}

void sum_rows(Number number, const Isa& isa, Int rows, const std::vector<RowSumMemory>& jobs, int threads) {
  const std::unique_ptr<Sums> sums = make_sums(number, isa, rows, jobs, false, threads);
  in_parallel(sums->parts(), [&](int part) { sums->run_part(part); });
}

}  // namespace elman
