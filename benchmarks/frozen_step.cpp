// A step of a frozen LSTM through elman.h beside one whose sizes the compiler knows, on Eigen; see frozen_step.py.
//   frozen_step MODEL WEIGHTS ROUNDS        WEIGHTS: W (4H, H), U (4H, H), b (4H) as floats, gates i f g o
#include <elman.h>

#include <Eigen/Dense>
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <vector>

#ifndef H
#define H 64
#endif

namespace {

constexpr int steps = 2000;

struct Lstm {
  Eigen::Matrix<float, 4 * H, H> W, U;
  Eigen::Matrix<float, 4 * H, 1> b;
  Eigen::Matrix<float, H, 1> h, c;

  void reset() { h.setZero(), c.setZero(); }
  void step(const float* in, float* out) {
    const Eigen::Map<const Eigen::Matrix<float, H, 1>> x(in);
    Eigen::Matrix<float, 4 * H, 1> z = b;
    z.noalias() += W * x;
    z.noalias() += U * h;
    const auto i = z.template segment<H>(0).array().logistic(), f = z.template segment<H>(H).array().logistic();
    const auto o = z.template segment<H>(3 * H).array().logistic();
    c = (f * c.array() + i * z.template segment<H>(2 * H).array().tanh()).matrix();
    h = (o * c.array().tanh()).matrix();
    std::copy_n(h.data(), H, out);
  }
  EIGEN_MAKE_ALIGNED_OPERATOR_NEW
};

void check(elman_status status) {
  if (status) std::fprintf(stderr, "%s\n", elman_error()), std::exit(1);
}

template <class F> double microseconds(F&& step) {
  const auto begin = std::chrono::steady_clock::now();
  for (int t = 0; t < steps; ++t) step(t);
  return std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - begin).count() / steps;
}

double median(std::vector<double> of) {
  std::sort(of.begin(), of.end());
  return of[of.size() / 2];
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  elman_model* model;
  elman_stream* stream;
  check(elman_load(argv[1], &model));
  check(elman_open(model, 1, &stream));
  const auto lstm = std::make_unique<Lstm>();
  std::vector<float> weights(2 * 4 * H * H + 4 * H);
  std::ifstream(argv[2], std::ios::binary).read(reinterpret_cast<char*>(weights.data()), std::streamsize(weights.size() * sizeof(float)));
  using Rows = Eigen::Matrix<float, 4 * H, H, Eigen::RowMajor>;
  lstm->W = Eigen::Map<Rows>(weights.data()), lstm->U = Eigen::Map<Rows>(weights.data() + 4 * H * H);
  lstm->b = Eigen::Map<Eigen::Matrix<float, 4 * H, 1>>(weights.data() + 8 * H * H);
  lstm->reset();

  std::vector<float> x(std::size_t(steps) * H), ours(H), theirs(H);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = float(std::sin(double(i) * 0.7)) * 1.5f;
  float apart = 0;
  for (int t = 0; t < steps; ++t) {
    check(elman_step(stream, &x[std::size_t(t) * H], ours.data()));
    lstm->step(&x[std::size_t(t) * H], theirs.data());
    for (int k = 0; k < H; ++k) apart = std::max(apart, std::abs(ours[std::size_t(k)] - theirs[std::size_t(k)]));
  }
  if (!(apart < 1e-4f)) return std::fprintf(stderr, "refused: the answers differ by %g\n", double(apart)), 1;

  std::vector<double> a, b, ratios;
  for (int round = 0; round < std::atoi(argv[3]); ++round) {
    a.push_back(microseconds([&](int t) { elman_step(stream, &x[std::size_t(t) * H], ours.data()); }));
    b.push_back(microseconds([&](int t) { lstm->step(&x[std::size_t(t) * H], theirs.data()); }));
    ratios.push_back(a.back() / b.back());
  }
  std::printf("{\"H\": %d, \"isa\": \"%s\", \"elman_us\": %.4f, \"eigen_us\": %.4f, \"ratio\": %.3f, \"least_elman_us\": %.4f, "
              "\"least_eigen_us\": %.4f, \"apart\": %.2g}\n",
              H, elman_isa(), median(a), median(b), median(ratios), *std::min_element(a.begin(), a.end()),
              *std::min_element(b.begin(), b.end()), double(apart));
  elman_close(stream);
  elman_free(model);
}
