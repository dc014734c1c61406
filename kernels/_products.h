// Products of matrices by one block, in shared or global memory, from blocks of sums in registers. Every sum is made by one
// thread in the order of k, so that the number of threads shows in no bit. Rows of a matrix begin at multiples of 16 bytes (32
// in float64) and may be read to a multiple of N numbers, also into the next row, and N rows at a time.

// One side of C(i, j) = sum over k of A(i, k) B(j, k): `size` is how many i or j there are, of which a thread takes N. Where k
// runs `along` the rows of the matrix, i is the row, and a thread takes one of each N-th part of the rows, so that its neighbours
// read the next row; else k is the row, and the N stand side by side in it.
template <class T, bool along, int N = 4> struct Side {
    const T *matrix;
    int stride, size;  // numbers from row to row

    __device__ __forceinline__ int groups() const { return (size + N - 1) / N; }
    __device__ __forceinline__ int first(int group) const { return along ? group : N * group; }
    __device__ __forceinline__ int step() const { return along ? groups() : 1; }  // from one of the N to the next
};

// What a thread reads of a side, K numbers of k at a time: x[a][q] is that of the a-th of its i at k + q.
template <class T, bool along, int N, int K> struct Reader {
    const T *at[along ? N : 1];
    int stride;

    __device__ __forceinline__ Reader(const Side<T, along, N> &side, int group) : stride(side.stride) {
        for (int a = 0; a < (along ? N : 1); a++) at[a] = side.matrix + (along ? (group + a * side.groups()) * stride : N * group);
    }

    __device__ __forceinline__ void next(T (&x)[N][K]) {
        const int V = along ? K : 4;
#pragma unroll
        for (int a = 0; a < N * K; a += V) {
            const Pack<T, V> pack = load<T, V>(along ? at[a / K] : at[0] + a % N);
#pragma unroll
            for (int b = 0; b < V; b++) (along ? x[a / K][b % K] : x[a % N + b][a / N]) = pack.at[b];
            if (along)
                at[a / K] += K;
            else if ((a + V) % N == 0)
                at[0] += stride;
        }
    }
};

// A whole product: use(i, j, sums) gets the first i and j of a block of N x 4, and its sums[a].at[b]. Neighbouring lanes take two blocks
// of the same j, and so on along j: half a warp then reads two packs of A and eight of B, which lie in different banks.
template <int unrolled, class T, bool along_a, bool along_b, int N, class Use>
__device__ __forceinline__ void product(Side<T, along_a, N> A, Side<T, along_b> B, int size, Use use) {
    const int K = along_a || along_b ? 16 / sizeof(T) : 1;
    const int across = 2 * B.groups(), blocks = (A.groups() + 1) / 2 * across;
    const float inverse = 1.0f / across;
    for (int t = threadIdx.x; t < blocks; t += blockDim.x) {
        const int pair = int((t + 0.5f) * inverse), rest = t - pair * across, i = 2 * pair + rest % 2, j = rest / 2;
        if (i >= A.groups()) continue;
        Reader<T, along_a, N, K> from_a(A, i);
        Reader<T, along_b, 4, K> from_b(B, j);
        Pack<T, 4> sums[N] = {};
#pragma unroll unrolled
        for (int k = 0; k < size; k += K) {
            T a[N][K], b[4][K];
            from_a.next(a), from_b.next(b);
#pragma unroll
            for (int q = 0; q < K; q++)
#pragma unroll
                for (int u = 0; u < N; u++)
#pragma unroll
                    for (int v = 0; v < 4; v++) sums[u].at[v] += a[u][q] * b[v][q];
        }
        use(A.first(i), B.first(j), sums);
    }
}

// Four sums over the lanes of a warp: a lane gets the one of number lane / 8.
template <class T> __device__ __forceinline__ T sum_lanes(const Pack<T, 4> &s) {
    const bool upper = threadIdx.x & 16, odd = threadIdx.x & 8;
    const T a = (upper ? s.at[2] : s.at[0]) + __shfl_xor_sync(ALL, upper ? s.at[0] : s.at[2], 16);
    const T b = (upper ? s.at[3] : s.at[1]) + __shfl_xor_sync(ALL, upper ? s.at[1] : s.at[3], 16);
    T sum = (odd ? b : a) + __shfl_xor_sync(ALL, odd ? a : b, 8);
    for (int d = 4; d > 0; d /= 2) sum += __shfl_xor_sync(ALL, sum, d);
    return sum;
}
