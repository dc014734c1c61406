"""Vectors for Numba kernels, of 64 bytes (16 float32, 8 float64), half of that, or one number, as LLVM's own types.

A kernel that is written with these few words compiles to the same loads, selects and stores whatever the compiler would
have found out about its loops by itself: arrays may be the same (in place), masks come as bits, and stores may pass the
cache by. Offsets count elements from the array's first one; arrays are C-contiguous, of any number of axes.

    load half one       from memory                                  add minus times      arithmetic, without
    repeat zeros        one number in each lane                      over root fma scale  fast-math
    store stream        back to it; `stream` passes the cache by     positive huge wild   comparisons: one truth a lane
    tally accumulate    counters += truths, sums += lanes            bits                 truths as the bits of a uint32
    both unlike         and, exclusive or, of words                  spell                counters from their binary digits
    width               numbers in a whole vector                    prefetch             ask for a line, for one use
    total turn          sum of the lanes, transposed square          relu keep gate       selections

`_plain.py` has the same words for one number at a time. Imported at the first use of a compiled kernel, as it needs Numba.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

BYTES = 64


class Lanes(types.Type):
    """`width` numbers of `dtype`, or `width` truths (dtype boolean), in a vector register or several."""

    def __init__(self, dtype, width):
        self.dtype, self.width = dtype, width
        super().__init__(name=f"Lanes({dtype}, {width})")


@register_model(Lanes)
class LanesModel(models.PrimitiveModel):
    def __init__(self, manager, lanes):
        truths = lanes.dtype == types.boolean
        element = ir.IntType(1) if truths else manager.lookup(lanes.dtype).get_value_type()
        super().__init__(manager, lanes, ir.VectorType(element, lanes.width))


def _width(array):
    return BYTES * 8 // array.dtype.bitwidth


def _pointer(context, builder, array, value, offset, kind):
    """The address of element `offset` of an array, as a pointer to `kind`."""
    data = context.make_array(array)(context, builder, value).data
    return builder.bitcast(builder.gep(data, [offset]), kind.as_pointer())


def _same(value, number):
    """`number` in each lane of a vector like `value`, or by itself."""
    lanes = getattr(value.type, "count", None)
    return ir.Constant(value.type, number if lanes is None else [number] * lanes)


def _spread(lanes, element):
    """The LLVM type with an `element` for each lane of `lanes`, which is a vector or one number."""
    return ir.VectorType(element, lanes.width) if isinstance(lanes, Lanes) else element


def _truths(lanes):
    return Lanes(types.boolean, lanes.width) if isinstance(lanes, Lanes) else types.boolean


@intrinsic
def width(typing, array):
    """How many of the array's numbers one vector holds."""
    n = _width(array)
    return types.intp(array), lambda context, builder, signature, arguments: context.get_constant(types.intp, n)


def _loader(share):
    """share: 1 for a whole vector, 2 for half of one, None for one number."""

    def load(typing, array, offset):
        lanes = Lanes(array.dtype, _width(array) // share) if share else array.dtype

        def generate(context, builder, signature, arguments):
            kind = context.get_value_type(lanes)
            value, at = arguments
            pointer = _pointer(context, builder, array, value, at, kind)
            return builder.load(pointer, align=array.dtype.bitwidth // 8)

        return lanes(array, types.intp), generate

    return load


load = intrinsic(_loader(1))
half = intrinsic(_loader(2))
one = intrinsic(_loader(None))


@intrinsic
def repeat(typing, array, offset):
    """The array's number at `offset` in each lane."""
    lanes = Lanes(array.dtype, _width(array))

    def generate(context, builder, signature, arguments):
        value, at = arguments
        number = builder.load(_pointer(context, builder, array, value, at, context.get_value_type(array.dtype)))
        kind = context.get_value_type(lanes)
        first = builder.insert_element(ir.Constant(kind, ir.Undefined), number, ir.IntType(32)(0))
        everywhere = ir.Constant(ir.VectorType(ir.IntType(32), lanes.width), [0] * lanes.width)
        return builder.shuffle_vector(first, ir.Constant(kind, ir.Undefined), everywhere)

    return lanes(array, types.intp), generate


@intrinsic
def zeros(typing, array):
    lanes = Lanes(array.dtype, _width(array))
    return lanes(array), lambda context, builder, signature, arguments: _same(
        ir.Constant(context.get_value_type(lanes), ir.Undefined), 0.0
    )


@intrinsic
def store(typing, lanes, array, offset):
    def generate(context, builder, signature, arguments):
        vector, value, at = arguments
        builder.store(vector, _pointer(context, builder, array, value, at, vector.type), align=array.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(lanes, array, types.intp), generate


@intrinsic
def stream(typing, lanes, array, offset):
    """Store past the cache, in pieces of 16 bytes at multiples of 16; one number by itself is stored as usual."""

    def generate(context, builder, signature, arguments):
        vector, value, at = arguments
        if not isinstance(lanes, Lanes):
            builder.store(vector, _pointer(context, builder, array, value, at, vector.type))
            return context.get_dummy_value()
        piece = 16 * 8 // array.dtype.bitwidth
        hint = builder.module.add_metadata([ir.Constant(ir.IntType(32), 1)])
        for first in range(0, lanes.width, piece):
            pick = ir.Constant(ir.VectorType(ir.IntType(32), piece), list(range(first, first + piece)))
            part = builder.shuffle_vector(vector, ir.Constant(vector.type, ir.Undefined), pick)
            here = builder.add(at, ir.Constant(at.type, first))
            stored = builder.store(part, _pointer(context, builder, array, value, here, part.type), align=16)
            stored.set_metadata("nontemporal", hint)
        return context.get_dummy_value()

    return types.void(lanes, array, types.intp), generate


@intrinsic
def prefetch(typing, array, offset):
    """Ask for the line of element `offset`, for one use only; a line behind the end of the array does no harm."""

    def generate(context, builder, signature, arguments):
        byte, word = ir.IntType(8).as_pointer(), ir.IntType(32)
        function = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(ir.VoidType(), [byte, word, word, word]), "llvm.prefetch.p0i8"
        )
        value, at = arguments
        pointer = _pointer(context, builder, array, value, at, ir.IntType(8))
        builder.call(function, [pointer, word(0), word(0), word(1)])  # to read, no locality, data
        return context.get_dummy_value()

    return types.void(array, types.intp), generate


def _arithmetic(instruction):
    def combine(typing, a, b):
        return a(a, b), lambda context, builder, signature, arguments: getattr(builder, instruction)(*arguments)

    return combine


add, minus, times, over = (intrinsic(_arithmetic(name)) for name in ("fadd", "fsub", "fmul", "fdiv"))
both, unlike = (intrinsic(_arithmetic(name)) for name in ("and_", "xor"))


@intrinsic
def root(typing, a):
    return a(a), lambda context, builder, signature, arguments: _of_vectors(builder, "sqrt", *arguments)


@intrinsic
def fma(typing, a, b, c):
    """a·b + c, rounded once on processors that have such an instruction."""
    return a(a, b, c), lambda context, builder, signature, arguments: _of_vectors(builder, "fmuladd", *arguments)


def _of_vectors(builder, name, *vectors):
    """A function of LLVM's, lane by lane."""
    kind = vectors[0].type
    name = f"llvm.{name}.v{kind.count}f{32 if kind.element == ir.FloatType() else 64}"
    function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(kind, [kind] * len(vectors)), name)
    return builder.call(function, vectors)


@intrinsic
def total(typing, vector):
    """The sum of all lanes: the upper half is added to the lower until one is left."""

    def generate(context, builder, signature, arguments):
        (held,) = arguments
        n, nothing = vector.width, ir.Constant(arguments[0].type, ir.Undefined)
        while n > 1:
            n //= 2
            halves = [[i + first for i in range(n)] for first in (0, n)]
            picks = [ir.Constant(ir.VectorType(ir.IntType(32), n), half) for half in halves]
            low, high = (builder.shuffle_vector(held, nothing, pick) for pick in picks)
            held = builder.fadd(low, high)
            nothing = ir.Constant(held.type, ir.Undefined)
        return builder.extract_element(held, ir.IntType(32)(0))

    return vector.dtype(vector), generate


@intrinsic
def turn(typing, source, at, target, to):
    """Transpose a square of `width` vectors, one after the other in memory, by shuffles of squares of 32 bytes."""

    def generate(context, builder, signature, arguments):
        value, first, other, there = arguments
        n, width = BYTES * 4 // source.dtype.bitwidth, _width(source)
        kind = ir.VectorType(context.get_value_type(source.dtype), n)
        align = source.dtype.bitwidth // 8
        riffles = [[half * n // 2 + i // 2 + i % 2 * n for i in range(n)] for half in (0, 1)]
        picks = [ir.Constant(ir.VectorType(ir.IntType(32), n), riffle) for riffle in riffles]

        def place(array, typed, offset, row, column):
            here = builder.add(offset, ir.Constant(offset.type, row * width + column))
            return _pointer(context, builder, typed, array, here, kind)

        for row in range(0, width, n):
            for column in range(0, width, n):
                held = [builder.load(place(value, source, first, row + i, column), align=align) for i in range(n)]
                for _ in range(n.bit_length() - 1):  # riffle the upper rows with the lower ones
                    pairs = [(held[i], held[i + n // 2]) for i in range(n // 2)]
                    held = [builder.shuffle_vector(*pair, pick) for pair in pairs for pick in picks]
                for i in range(n):
                    builder.store(held[i], place(other, target, there, column + i, row), align=align)
        return context.get_dummy_value()

    return types.void(source, types.intp, target, types.intp), generate


@intrinsic
def scale(typing, lanes, number):
    """Each lane times one number of the same kind."""

    def generate(context, builder, signature, arguments):
        vector, factor = arguments
        if isinstance(lanes, Lanes):
            first = builder.insert_element(ir.Constant(vector.type, ir.Undefined), factor, ir.IntType(32)(0))
            same = ir.Constant(ir.VectorType(ir.IntType(32), lanes.width), None)
            factor = builder.shuffle_vector(first, ir.Constant(vector.type, ir.Undefined), same)
        return builder.fmul(vector, factor)

    return lanes(lanes, lanes.dtype if isinstance(lanes, Lanes) else lanes), generate


@intrinsic
def relu(typing, s):
    """0 where s <= 0, else s: NaN stays."""

    def generate(context, builder, signature, arguments):
        (vector,) = arguments
        zero = _same(vector, 0.0)
        return builder.select(builder.fcmp_ordered("<=", vector, zero), zero, vector)

    return s(s), generate


@intrinsic
def positive(typing, s):
    """s > 0, in each lane."""

    def generate(context, builder, signature, arguments):
        return builder.fcmp_ordered(">", arguments[0], _same(arguments[0], 0.0))

    return _truths(s)(s), generate


@intrinsic
def huge(typing, s):
    """Not s < inf: s is +inf or NaN. One comparison, and for an output of ReLU all that can be wrong with it."""

    def generate(context, builder, signature, arguments):
        return builder.fcmp_unordered(">=", arguments[0], _same(arguments[0], float("inf")))

    return _truths(s)(s), generate


@intrinsic
def wild(typing, s):
    """Not -inf < s < inf: s is infinite or NaN."""

    def generate(context, builder, signature, arguments):
        (value,) = arguments
        high = builder.fcmp_unordered(">=", value, _same(value, float("inf")))
        return builder.or_(high, builder.fcmp_ordered("<=", value, _same(value, float("-inf"))))

    return _truths(s)(s), generate


@intrinsic
def bits(typing, truths):
    """The truths as the low bits of a uint32, lane 0 lowest."""

    def generate(context, builder, signature, arguments):
        (held,) = arguments
        if isinstance(truths, Lanes):
            held = builder.bitcast(held, ir.IntType(truths.width))
        return builder.zext(held, ir.IntType(32))

    return types.uint32(truths), generate


@intrinsic
def keep(typing, word, vector):
    """`vector` in the lanes whose bit in `word` is set, +0 elsewhere, by selection."""

    def generate(context, builder, signature, arguments):
        mask, value = arguments
        low = builder.trunc(mask, ir.IntType(getattr(vector, "width", 1)))
        return builder.select(builder.bitcast(low, _spread(vector, ir.IntType(1))), value, _same(value, 0.0))

    return vector(types.uint32, vector), generate


@intrinsic
def gate(typing, s, vector):
    """`vector` in the lanes where s > 0, +0 elsewhere, by selection."""

    def generate(context, builder, signature, arguments):
        test, value = arguments
        return builder.select(builder.fcmp_ordered(">", test, _same(test, 0.0)), value, _same(value, 0.0))

    return vector(s, vector), generate


@intrinsic
def tally(typing, counters, offset, truths):
    """counters[offset + lane] += 1 where the truth holds; modulo the counters' range."""

    def generate(context, builder, signature, arguments):
        value, at, held = arguments
        kind = _spread(truths, ir.IntType(counters.dtype.bitwidth))
        pointer = _pointer(context, builder, counters, value, at, kind)
        align = counters.dtype.bitwidth // 8
        builder.store(builder.sub(builder.load(pointer, align=align), builder.sext(held, kind)), pointer, align=align)
        return context.get_dummy_value()

    return types.void(counters, types.intp, truths), generate


@intrinsic
def spell(typing, planes, at, step, counters, offset):
    """counters[offset + j] = Σ_p 2ᵖ · bit j of the word planes[at + p·step], for the 32 bits j and the 8 planes p."""

    def generate(context, builder, signature, arguments):
        value, first, stride, target, to = arguments
        kind = ir.VectorType(ir.IntType(8), 32)
        total = ir.Constant(kind, None)
        for p in range(8):
            here = builder.add(first, builder.mul(stride, ir.Constant(stride.type, p)))
            word = builder.load(_pointer(context, builder, planes, value, here, ir.IntType(32)))
            held = builder.bitcast(word, ir.VectorType(ir.IntType(1), 32))
            total = builder.or_(total, builder.select(held, ir.Constant(kind, [1 << p] * 32), ir.Constant(kind, None)))
        builder.store(total, _pointer(context, builder, counters, target, to, kind), align=1)
        return context.get_dummy_value()

    return types.void(planes, types.intp, types.intp, counters, types.intp), generate


@intrinsic
def accumulate(typing, sums, offset, vector):
    """sums[offset + lane] += the lane."""

    def generate(context, builder, signature, arguments):
        value, at, terms = arguments
        pointer = _pointer(context, builder, sums, value, at, terms.type)
        align = sums.dtype.bitwidth // 8
        builder.store(builder.fadd(builder.load(pointer, align=align), terms), pointer, align=align)
        return context.get_dummy_value()

    return types.void(sums, types.intp, vector), generate
