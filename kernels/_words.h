// What the CUDA kernels are written with. _cuda.py puts this text before each .cu; no kernel includes anything.
//
// The counting kernels climb one ladder: 1 is one thread a number, 2 reads and writes 16 bytes at a time and sums what it can in
// registers, 3 cuts the work into tasks, of which a block takes one or more: a task is a slab of ROWS rows and as many
// units as the block is wide; sums go from registers to shared memory to one line of `partial` a slab, and
// the block that finishes the last slab adds up the lines in their order. So the order of every sum depends on (B, O) alone.

typedef unsigned int u32;
typedef long long i64;
typedef unsigned long long u64;

#define ALL 0xffffffffu  // lanes of a warp
const int ROWS = 128;         // rows of a slab, as on the CPU; a count of them fits 16 bits
const int AHEAD = 4;          // rows that a thread reads before it uses the first

extern __shared__ __align__(32) unsigned char arena[];  // all shared memory; the launcher says how much

// Numbers of 16 bits, as they are stored. They are computed with as floats: Wide<T>, which is T itself for float and double.
struct f16 { unsigned short bits; };
struct bf16 { unsigned short bits; };

template <class T> struct Width { typedef T type; };
template <> struct Width<f16> { typedef float type; };
template <> struct Width<bf16> { typedef float type; };
template <class T> using Wide = typename Width<T>::type;

#ifdef __CUDACC__  // g++ has these two words from cuda_on_cpu.h; nothing else of a text differs there
__device__ __forceinline__ float from_half(unsigned short bits) {
    float x;
    asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(bits));
    return x;
}

__device__ __forceinline__ unsigned short to_half(float x) {
    unsigned short bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(x));
    return bits;
}
#endif

__device__ __forceinline__ float wide(float x) { return x; }
__device__ __forceinline__ double wide(double x) { return x; }
__device__ __forceinline__ float wide(f16 x) { return from_half(x.bits); }
__device__ __forceinline__ float wide(bf16 x) { return __uint_as_float(u32(x.bits) << 16); }  // the upper half of a float

// The nearest number that T has, of two equally near ones the even.
template <class T> __device__ __forceinline__ T narrow(Wide<T> x) { return x; }
template <> __device__ __forceinline__ f16 narrow<f16>(float x) { return f16{to_half(x)}; }
template <> __device__ __forceinline__ bf16 narrow<bf16>(float x) {
    const u32 bits = __float_as_uint(x), nearest = (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
    return bf16{(unsigned short)(x == x ? nearest : bits >> 16 | 0x40u)};  // a NaN stays one, whatever bits it loses
}

// V numbers that are read and written at once, 16 bytes at a time. Those of 16 bits stay two in a register until they are used.
template <class T, int V, bool paired = sizeof(T) == 2 && V % 2 == 0>
struct __align__(V * sizeof(T) < 16 ? V * sizeof(T) : 16) Pack {
    T at[V];
    __device__ __forceinline__ T get(int v) const { return at[v]; }
    __device__ __forceinline__ void set(int v, T x) { at[v] = x; }
};

template <class T, int V> struct __align__(V * sizeof(T) < 16 ? V * sizeof(T) : 16) Pack<T, V, true> {
    u32 pair[V / 2];
    __device__ __forceinline__ T get(int v) const { return T{(unsigned short)(pair[v / 2] >> v % 2 * 16)}; }
    __device__ __forceinline__ void set(int v, T x) {
        pair[v / 2] = (pair[v / 2] & 0xffff0000u >> v % 2 * 16) | u32(x.bits) << v % 2 * 16;
    }
};

template <class T, int V> __device__ __forceinline__ Pack<T, V> load(const T *from) {
    return *reinterpret_cast<const Pack<T, V> *>(from);
}

template <class T, int V> __device__ __forceinline__ void store(T *to, const Pack<T, V> &pack) {
    *reinterpret_cast<Pack<T, V> *>(to) = pack;
}

// A select: NaN passes, -0 becomes +0.
template <class T> __device__ __forceinline__ T relu(T s) { return s <= T(0) ? T(0) : s; }

template <class T> __device__ __forceinline__ bool positive(T y) { return wide(y) > Wide<T>(0); }

// Infinite or NaN: the only numbers whose difference from themselves is not 0.
template <class T> __device__ __forceinline__ bool wild(T y) { return !(wide(y) - wide(y) == Wide<T>(0)); }

template <class T, int V> __device__ __forceinline__ Pack<T, V> narrowed(const Pack<Wide<T>, V> &pack) {
    Pack<T, V> made = {};
    for (int v = 0; v < V; v++) made.set(v, narrow<T>(pack.at[v]));
    return made;
}

// The low 32/V bits of x, V places apart.
template <int V> __device__ __forceinline__ u32 deal(u32 x) {
    if (V == 2) {
        x = ((x & 0xffffu) | x << 8) & 0x00ff00ffu;
        x = (x | x << 4) & 0x0f0f0f0fu;
        x = (x | x << 2) & 0x33333333u;
        x = (x | x << 1) & 0x55555555u;
    }
    if (V == 4) {
        x = ((x & 0xffu) | x << 12) & 0x000f000fu;
        x = (x | x << 6) & 0x03030303u;
        x = (x | x << 3) & 0x11111111u;
    }
    if (V == 8) {
        x = ((x & 3u) | x << 14) & 0x00030003u;
        x = (x | x << 7) & 0x01010101u;
    }
    return x;
}

// Words of a mask from V bits a lane (lane i has the units V·i, V·i + 1, ...): afterwards each 32/V lanes hold their word.
template <int V> __device__ __forceinline__ u32 gather(u32 bits) {
    if (V == 1) return __ballot_sync(ALL, bits);
    u32 word = bits << threadIdx.x % (32 / V) * V;
    for (int step = 1; step < 32 / V; step *= 2) word |= __shfl_xor_sync(ALL, word, step);
    return word;
}

// A slab of rows and a strip of units of one replica: what a block of step 3 does at a time.
struct Task {
    i64 replica, unit;  // unit: the first of this thread's V
    int strip, slab;
    int rows;
    bool inside;  // whether this thread has units at all
};

// How the work is cut into tasks; neighbours in the queue are neighbours in a row. Strips and slabs of a replica are ints:
// more of them would be more than any card's memory, and registers are scarce.
struct Cut {
    i64 rows, units, tasks;
    int strips, slabs, width;

    __device__ __forceinline__ Cut(i64 replicas, i64 rows, i64 units, int V) : rows(rows), units(units) {
        width = blockDim.x * V;
        strips = int((units + width - 1) / width);
        slabs = int((rows + ROWS - 1) / ROWS);
        tasks = replicas * slabs * strips;
    }

    __device__ __forceinline__ Task task(i64 k, int V) const {
        Task t;
        t.strip = int(k % strips);
        t.slab = int(k / strips % slabs);
        t.replica = k / strips / slabs;
        t.unit = k % strips * width + threadIdx.x * V;
        t.rows = int(rows - first(t) < ROWS ? rows - first(t) : ROWS);
        t.inside = t.unit < units;
        return t;
    }

    __device__ __forceinline__ static i64 first(const Task &t) { return i64(t.slab) * ROWS; }
    __device__ __forceinline__ i64 row(const Task &t, int i) const { return t.replica * rows + first(t) + i; }
};

// The sums of a block's rows, y = 0, 1, ... in this order, for the threads with y = 0.
template <class T, int V> __device__ __forceinline__ void sum_rows(Pack<T, V> &sum) {
    if (blockDim.y == 1) return;
    Pack<T, V> *all = reinterpret_cast<Pack<T, V> *>(arena);
    all[threadIdx.y * blockDim.x + threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.y == 0)
        for (int y = 1; y < blockDim.y; y++)
            for (int v = 0; v < V; v++) sum.at[v] += all[y * blockDim.x + threadIdx.x].at[v];
    __syncthreads();
}

// Whether this block is the last to finish a slab of its strip. Whatever the others wrote before they asked is visible then.
__device__ __forceinline__ bool last_slab(u32 *tickets, const Cut &cut, const Task &t) {
    bool *last = reinterpret_cast<bool *>(arena);
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0 && threadIdx.y == 0) *last = atomicAdd(&tickets[t.replica * cut.strips + t.strip], 1u) == cut.slabs - 1;
    __syncthreads();
    const bool found = *last;
    __threadfence();
    __syncthreads();
    return found;
}

// active and nonfinite of V units from counts that hold one in the low and one in the high 16 bits.
template <int V> struct Counts {
    u64 active[V], nonfinite[V];

    __device__ __forceinline__ Counts() {
        for (int v = 0; v < V; v++) active[v] = nonfinite[v] = 0;
    }

    __device__ __forceinline__ void add(int v, u32 both) { active[v] += both & 0xffffu, nonfinite[v] += both >> 16; }

    __device__ __forceinline__ void write(u64 *on, u64 *strange) const {
        for (int v = 0; v < V; v++) on[v] = active[v], strange[v] = nonfinite[v];
    }
};

// A slab's counts to where they belong: the end of step 3 of the kernels that count.
template <int V>
__device__ __forceinline__ void finish_counts(
    Pack<u32, V> count, const Cut &cut, const Task &t, u64 *active, u64 *nonfinite, u32 *partial, u32 *tickets
) {
    sum_rows<u32, V>(count);
    const bool mine = threadIdx.y == 0 && t.inside;
    const i64 at = t.replica * cut.units + t.unit;
    u32 *line = partial + t.replica * cut.slabs * cut.units + t.unit;
    Counts<V> total;
    if (cut.slabs == 1) {
        for (int v = 0; v < V; v++) total.add(v, count.at[v]);
        if (mine) total.write(active + at, nonfinite + at);
        return;
    }
    if (mine) store<u32, V>(line + t.slab * cut.units, count);
    if (!last_slab(tickets, cut, t) || !mine) return;
#pragma unroll (V > 4 ? 2 : 8)  // of more there are no registers
    for (i64 slab = 0; slab < cut.slabs; slab++)
        for (int v = 0; v < V; v++) total.add(v, __ldcg(line + slab * cut.units + v));
    total.write(active + at, nonfinite + at);
}
