// Enough of CUDA C++ for g++ to compile the kernels that CuPy writes. Kept short, with as few
// headers as will do: every kernel is compiled on its own, and most of that time goes into these.
#include <cassert>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <initializer_list>
#include <utility>

#define __device__
#define __host__
#define __global__
#define __shared__
#define __forceinline__ inline
#define __noinline__

// One thread, alone in its block, which is the only one.
struct dim3 { unsigned x, y, z; };
static const dim3 threadIdx{0, 0, 0}, blockIdx{0, 0, 0}, blockDim{1, 1, 1}, gridDim{1, 1, 1};
inline void __syncthreads() {}

// Functions of the device that are no functions of C++.
using std::isfinite; using std::isinf; using std::isnan; using std::signbit;
template <class T> T min(T a, T b) { return b < a ? b : a; }
template <class T> T max(T a, T b) { return a < b ? b : a; }
inline float rsqrt(float x) { return 1 / std::sqrt(x); }
inline double rsqrt(double x) { return 1 / std::sqrt(x); }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }

template <class To, class From> To same_bits(From from) {
  static_assert(sizeof(To) == sizeof(From), "");
  To to;
  std::memcpy(&to, &from, sizeof to);
  return to;
}
inline int __float_as_int(float x) { return same_bits<int>(x); }
inline float __int_as_float(int x) { return same_bits<float>(x); }
inline long long __double_as_longlong(double x) { return same_bits<long long>(x); }
inline double __longlong_as_double(long long x) { return same_bits<double>(x); }

// Atomic because there is one thread only.
template <class T> T atomicExch(T* place, T value) { return std::exchange(*place, value); }
template <class T> T atomicCAS(T* place, T expected, T value) {
  return *place == expected ? std::exchange(*place, value) : *place;
}
#define ATOMIC(name, T, result) \
  inline T name(T* place, T value) { T old = *place; *place = result; return old; }
#define ATOMICS_OF_INTEGERS(T) \
  ATOMIC(atomicAdd, T, old + value) ATOMIC(atomicMax, T, max(old, value)) \
  ATOMIC(atomicMin, T, min(old, value)) ATOMIC(atomicAnd, T, old & value) \
  ATOMIC(atomicOr, T, old | value) ATOMIC(atomicXor, T, old ^ value)
ATOMICS_OF_INTEGERS(int)
ATOMICS_OF_INTEGERS(unsigned)
ATOMICS_OF_INTEGERS(unsigned long long)
ATOMIC(atomicAdd, float, old + value)
ATOMIC(atomicAdd, double, old + value)

// Named in CuPy's headers, but never run: such kernels are refused.
template <class T> struct complex;
template <class T> T norm(const complex<T>&);
inline unsigned short __float2half_rn(float) { __builtin_trap(); }
inline float __half2float(unsigned short) { __builtin_trap(); }
#define __half_as_ushort(h) (static_cast<__half_raw>(h).x)
#define __ushort_as_half(x) (half(__half_raw{x}))

// run(kernel, arguments) is kernel(*arguments[0], *arguments[1], ...), each of its own type.
template <class... A, std::size_t... i>
void call(void (*kernel)(A...), void** arguments, std::index_sequence<i...>) {
  kernel(*static_cast<A*>(arguments[i])...);
}
template <class... A> void run(void (*kernel)(A...), void** arguments) {
  call(kernel, arguments, std::index_sequence_for<A...>());
}
