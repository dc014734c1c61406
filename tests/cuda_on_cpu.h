// The words of CUDA C++ for g++: a kernel's text compiles behind this header unchanged, and cuda_on_cpu.cpp runs it.
// One fiber a CUDA thread; blocks one after another; shared memory is the one dynamic array `arena`.
#pragma once
#include <cmath>
#include <cstring>

#define __global__
#define __device__
#define __shared__ /* only in `extern __shared__ ... arena[]`, which cuda_on_cpu.cpp defines */
#define __forceinline__ inline __attribute__((always_inline))
#define __align__(n) __attribute__((aligned(n)))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)

struct dim3 { unsigned x, y, z; };

namespace coc {
dim3 thread_index() __attribute__((const));  // what a fiber sees of these never changes
dim3 block_index() __attribute__((const));
dim3 block_size() __attribute__((const));
dim3 grid_size() __attribute__((const));
void barrier();
void warp_barrier(unsigned mask);
const unsigned long long *exchange(unsigned mask, int operation, unsigned long long value);
void fence();
void atomic(void *at, int bytes);  // the next access of this thread to `at` is atomic
unsigned lane();
}  // namespace coc

#define threadIdx coc::thread_index()
#define blockIdx coc::block_index()
#define blockDim coc::block_size()
#define gridDim coc::grid_size()

inline void __syncthreads() { coc::barrier(); }
inline void __syncwarp(unsigned mask = ~0u) { coc::warp_barrier(mask); }
inline void __threadfence() { coc::fence(); }

// What follows reads memory that is not the kernel's, and so is not watched.
#ifdef __SANITIZE_THREAD__
#define UNWATCHED __attribute__((noinline, no_sanitize("thread")))
#else
#define UNWATCHED inline
#endif

template <class T> UNWATCHED unsigned long long to_bits(T value) {
    unsigned long long bits = 0;
    std::memcpy(&bits, &value, sizeof value);
    return bits;
}

template <class T> UNWATCHED T from_bits(unsigned long long bits) {
    T value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

inline unsigned __float_as_uint(float x) { return unsigned(to_bits(x)); }
inline float __uint_as_float(unsigned bits) { return from_bits<float>(bits); }

// What PTX calls cvt.f32.f16 and cvt.rn.f16.f32; the only words of a kernel's text that are not executed but replaced.
UNWATCHED float from_half(unsigned short bits) {
    const unsigned sign = (bits & 0x8000u) << 16, rest = bits & 0x7fffu;
    if (rest >= 0x7c00u) return __uint_as_float(sign | 0x7f800000u | rest << 13);  // infinite or NaN
    return __uint_as_float(sign | __float_as_uint(__uint_as_float(rest << 13) * 0x1p112f));  // as their exponents differ by 112
}

UNWATCHED unsigned short to_half(float x) {
    const unsigned bits = __float_as_uint(x), sign = bits >> 16 & 0x8000u, rest = bits & 0x7fffffffu;
    if (rest > 0x7f800000u) return 0x7fff;            // every NaN
    if (rest >= 0x477ff000u) return sign | 0x7c00u;  // from 65520 on
    if (rest < 0x38800000u) return sign | (__float_as_uint(__uint_as_float(rest) + 0.5f) - 0x3f000000u);  // multiples of 2^-24
    return sign | (rest - 0x38000000u + 0xfffu + (rest >> 13 & 1u)) >> 13;
}

UNWATCHED unsigned __ballot_sync(unsigned mask, int truth) {
    const unsigned long long *all = coc::exchange(mask, 1, truth != 0);
    unsigned word = 0;
    for (int i = 0; i < 32; i++)
        if (mask >> i & 1) word |= unsigned(all[i]) << i;
    return word;
}

template <class T> UNWATCHED T __shfl_xor_sync(unsigned mask, T value, int other) {
    return from_bits<T>(coc::exchange(mask, 2, to_bits(value))[coc::lane() ^ unsigned(other)]);
}

template <class T> UNWATCHED T __shfl_sync(unsigned mask, T value, int from) {
    return from_bits<T>(coc::exchange(mask, 3, to_bits(value))[from & 31]);
}

template <class T> inline T __ldcg(const T *from) { return *from; }

template <class T> UNWATCHED T atomicAdd(T *to, T value) {
    coc::atomic(to, sizeof(T));
    const T before = *to;
    *to = before + value;
    return before;
}

template <class T> UNWATCHED T atomicOr(T *to, T value) {
    coc::atomic(to, sizeof(T));
    const T before = *to;
    *to = before | value;
    return before;
}

using std::sqrt;
