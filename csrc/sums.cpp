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

// The jobs as one thread sees them, and its scratch.
template <class T> class SumsPart {
 public:
  SumsPart(const Engine<T>& engine, const std::vector<RowSumMemory>& given) : engine_(engine) {
    std::size_t columns = 0, products = 0;
    for (const RowSumMemory& job : given) columns += job.columns.size(), products += job.products.size();
    columns_.reserve(columns), products_.reserve(products), jobs_.reserve(given.size());  // jobs point into them
    Int scratch = 0;
    for (const RowSumMemory& job : given) {
      jobs_.push_back({0, job.N, at<const T>(job.a), job.a_stride, columns_.data() + columns_.size(), int(job.columns.size()),
                       products_.data() + products_.size(), int(job.products.size()), false});
      for (const auto& c : job.columns) columns_.push_back({at<const T>(c.factor), c.factor_stride, at<T>(c.out)});
      for (const auto& p : job.products) products_.push_back({at<const T>(p.b), p.b_stride, p.M, at<T>(p.out)});
      scratch = std::max(scratch, engine.sums_scratch(jobs_.back()));
    }
    scratch_ = std::make_unique<Buffer<T>>(scratch);
  }

  void run(int part, int parts, Int rows, const std::uintptr_t* read, bool adds) {
    auto column = columns_.begin();
    auto product = products_.begin();
    for (RowSum<T>& job : jobs_) {
      job.rows = rows, job.adds = adds, job.a = at<const T>(*read++);
      for (int i = 0; i < job.column_count; ++i, ++column)
        if (column->factor) column->factor = at<const T>(*read++);
      for (int i = 0; i < job.product_count; ++i, ++product) product->b = at<const T>(*read++);
    }
    for (std::size_t i = 0, end; i < jobs_.size(); i = end) {
      Int columns = jobs_[i].N;
      for (end = i + 1; end < jobs_.size() && same_products(jobs_[i], jobs_[end]); ++end) columns += jobs_[end].N;
      engine_.sums(&jobs_[i], int(end - i), columns * part / parts, columns * (part + 1) / parts, scratch_->get());
    }
  }

 private:
  const Engine<T>& engine_;
  std::vector<SummedColumns<T>> columns_;
  std::vector<SummedProduct<T>> products_;
  std::vector<RowSum<T>> jobs_;
  std::unique_ptr<Buffer<T>> scratch_;
};

template <class T> class EngineSums : public Sums {
 public:
  EngineSums(const Engine<T>& engine, Int rows, const std::vector<RowSumMemory>& given, int threads) {
    constexpr Int worth_a_thread = 1 << 15;  // multiplications
    Int work = 0;
    for (const RowSumMemory& job : given) {
      work += rows * job.N;
      for (const auto& p : job.products) work += rows * job.N * p.M;
    }
    const Int parts = std::clamp<Int>(work / worth_a_thread, 1, threads);
    parts_.reserve(std::size_t(parts));
    for (Int part = 0; part < parts; ++part) parts_.emplace_back(engine, given);
  }

  int parts() const override { return int(parts_.size()); }

  void run_part(int part, Int rows, const std::uintptr_t* read, bool adds) override {
    parts_[std::size_t(part)].run(part, parts(), rows, read, adds);
  }

 private:
  std::vector<SumsPart<T>> parts_;
};

}  // namespace

std::unique_ptr<Sums> make_sums(Number number, const Isa& isa, Int rows, const std::vector<RowSumMemory>& jobs, int threads) {
  check(rows, jobs, threads, element_size(number));
  if (number == Number::f32) return std::make_unique<EngineSums<float>>(isa.f32, rows, jobs, threads);
  return std::make_unique<EngineSums<double>>(isa.f64, rows, jobs, threads);
}

void sum_rows(Number number, const Isa& isa, Int rows, const std::vector<RowSumMemory>& jobs, int threads) {
  const std::unique_ptr<Sums> sums = make_sums(number, isa, rows, jobs, threads);
  std::vector<std::uintptr_t> read;
  for (const RowSumMemory& job : jobs) {
    read.push_back(job.a);
    for (const ColumnsMemory& columns : job.columns)
      if (columns.factor) read.push_back(columns.factor);
    for (const ProductMemory& product : job.products) read.push_back(product.b);
  }
  in_parallel(sums->parts(), [&](int part) { sums->run_part(part, rows, read.data(), false); });
}

}  // namespace elman
