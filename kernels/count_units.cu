// Per unit of any y, how many rows are active (y > 0) and how many are non-finite. Formula and special values: count_units.py.

#define COUNTS(T) const T *y, u64 *active, u64 *nonfinite
#define SIZES i64 replicas, i64 rows, i64 units

// 1. One thread a number; counts by atomics, 0 before.
template <class T> __device__ __forceinline__ void count_1(COUNTS(T), SIZES) {
    const i64 size = replicas * rows * units;
    for (i64 i = i64(blockIdx.x) * blockDim.x + threadIdx.x; i < size; i += i64(gridDim.x) * blockDim.x) {
        const i64 unit = i / units / rows * units + i % units;
        if (positive(y[i])) atomicAdd(&active[unit], 1ull);
        if (wild(y[i])) atomicAdd(&nonfinite[unit], 1ull);
    }
}

// 2. A thread counts V units of a slab in registers, 16 bytes at a time, then adds them by atomics.
template <class T, int V> __device__ __forceinline__ void count_2(COUNTS(T), SIZES) {
    const i64 slabs = (rows + ROWS - 1) / ROWS, packs = units / V;
    for (i64 k = i64(blockIdx.x) * blockDim.x + threadIdx.x; k < replicas * slabs * packs; k += i64(gridDim.x) * blockDim.x) {
        const i64 j = k % packs * V, r = k / packs / slabs, first = k / packs % slabs * ROWS;
        u32 on[V] = {}, strange[V] = {};
        for (i64 i = first; i < rows && i < first + ROWS; i++) {
            const Pack<T, V> s = load<T, V>(y + (r * rows + i) * units + j);
            for (int v = 0; v < V; v++) on[v] += positive(s.get(v)), strange[v] += wild(s.get(v));
        }
        for (int v = 0; v < V; v++) {
            if (on[v]) atomicAdd(&active[r * units + j + v], u64(on[v]));
            if (strange[v]) atomicAdd(&nonfinite[r * units + j + v], u64(strange[v]));
        }
    }
}

// 3. See _words.h: several rows in flight, a block's rows through shared memory, one line a slab, no atomics on the counts.
template <class T, int V> __device__ __forceinline__ void count_3(COUNTS(T), u32 *partial, u32 *tickets, SIZES) {
    const Cut cut(replicas, rows, units, V);
    for (i64 k = blockIdx.x; k < cut.tasks; k += gridDim.x) {
        const Task t = cut.task(k, V);
        Pack<u32, V> count = {};  // active rows in the low 16 bits, non-finite ones in the high
        for (int first = threadIdx.y; first < t.rows && t.inside; first += AHEAD * blockDim.y) {
            Pack<T, V> s[AHEAD] = {};  // rows beyond the slab hold 0: neither active nor non-finite
#pragma unroll
            for (int a = 0; a < AHEAD; a++) {
                const int i = first + a * blockDim.y;
                if (i < t.rows) s[a] = load<T, V>(y + cut.row(t, i) * units + t.unit);
            }
#pragma unroll
            for (int a = 0; a < AHEAD; a++)
                for (int v = 0; v < V; v++) count.at[v] += u32(positive(s[a].get(v))) + (u32(wild(s[a].get(v))) << 16);
        }
        finish_counts<V>(count, cut, t, active, nonfinite, partial, tickets);
    }
}

#define ENTRIES(T, type, V)                                                                                              \
    extern "C" __global__ void __launch_bounds__(256, 3) count_units_1_##type(COUNTS(T), SIZES) {                           \
        count_1<T>(y, active, nonfinite, replicas, rows, units);                                                         \
    }                                                                                                                    \
    extern "C" __global__ void __launch_bounds__(256, 3) count_units_2_##type(COUNTS(T), SIZES) {                           \
        count_2<T, V>(y, active, nonfinite, replicas, rows, units);                                                      \
    }                                                                                                                    \
    extern "C" __global__ void __launch_bounds__(256, 3) count_units_2_##type##_ragged(COUNTS(T), SIZES) {                  \
        count_2<T, 1>(y, active, nonfinite, replicas, rows, units);                                                      \
    }                                                                                                                    \
    extern "C" __global__ void __launch_bounds__(256, 3)                                                                    \
        count_units_3_##type(COUNTS(T), u32 *partial, u32 *tickets, SIZES) {                                             \
        count_3<T, V>(y, active, nonfinite, partial, tickets, replicas, rows, units);                                    \
    }                                                                                                                    \
    extern "C" __global__ void __launch_bounds__(256, 3)                                                                    \
        count_units_3_##type##_ragged(COUNTS(T), u32 *partial, u32 *tickets, SIZES) {                                    \
        count_3<T, 1>(y, active, nonfinite, partial, tickets, replicas, rows, units);                                    \
    }

ENTRIES(float, f32, 4)
ENTRIES(double, f64, 2)
ENTRIES(f16, f16, 8)
ENTRIES(bf16, bf16, 8)
