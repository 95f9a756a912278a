"""The formula language: its values are Python's, on tensors too, and nothing else gets through."""

from __future__ import annotations

import copy
import math
import pickle
import random
import subprocess
import sys
from collections.abc import Callable, Mapping

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from clipig.errors import ExpressionError
from clipig.values.expressions import ALIASES, VARIABLES, Expression, parse, time_context
from clipig.values.expressions import functions as scalar_functions
from clipig.values.expressions import tensors as tensor_functions
from clipig.values.expressions.tensors import compute
from tests.support.formulas import EVERY, RELAXED, context_at


def value(text: str, t: float = 0.3) -> object:
    return parse(text, EVERY).evaluate(context_at(t))


def python_value(text: str, context: Mapping[str, object]) -> object:
    """What Python itself makes of `text`, with the original's names; for tests only."""
    names: dict[str, object] = {**vars(math), "clamp": scalar_functions.clamp, **context}
    names |= {"time_step": lambda a, b: scalar_functions.time_step(float(context["time"]), a, b)}  # type: ignore[arg-type]
    names |= {alias: names[name] for alias, name in ALIASES.items()}
    return eval(text, names)


# -- values --------------------------------------------------------------------------------------

SCHEDULE = "{0: 8, 1: 8, 2: 16, 3: 32, 4: 64, 5: 128}.get(int(t*16), 224)"
SIZES = "max(8,min(224,int(t*448/8)*8))"

LIKE_PYTHON = [
    # the config vocabulary's examples
    SCHEDULE,
    SIZES,
    "1/5*ti",
    "8 if t < .4 else 16",
    "1/t",
    "width/height",
    "res[0]",
    "log(t)",
    "10*10",
    "1/2",
    "1e3",
    ".5",
    "224/width",
    "resolution[1]",
    # numbers
    "1_000",
    "0x10",
    "True",
    "True + True",
    "-True",
    "-2**2",
    "2**-1",
    "2**3**2",
    "7//2",
    "-7//2",
    "-7.5//2",
    "7%3",
    "-7%3",
    "7%-3",
    "-7.5%inf",
    "1e308*10",
    "inf-inf == inf-inf",
    "+3",
    "not 0",
    "not t",
    # logic
    "0 or 5",
    "2 and 3",
    "0 and 1/0",
    "1 or 1/0",
    "t and t2 or 7",
    "0 < t < 1",
    "0 < t > .1 <= .2 != 3",
    "1 if 0 else 2 if t else 3",
    "epoch in (90, 100)",
    "epoch not in [1, 2]",
    "1 < 2 in [2, 3]",
    # lists and dicts
    "[t, 1, True]",
    "(t, 1)",
    "1, 2",
    "[1, 2, 3][-1]",
    "(1, 2, 3)[int(t*3)]",
    "[[1, 2], [3, 4]][epoch % 2]",
    "[[1, 2], [3, 4]][1][0]",
    "{1: 2}[1]",
    "{1: 2, 1: 3}[True]",
    "{.5: 2}.get(t, -1)",
    "{0: [8, 8]}.get(epoch, [9, 9])",
    "[1] if t else [1, 2]",
    "resolution",
    "resolution if t else [1, 2]",
    "sum(res)",
    # functions
    "sin(t)+cos(t)*tan(t)",
    "asin(t)+acos(t)+atan(t)+atan2(t,2)",
    "sinh(t)+cosh(t)+tanh(t)",
    "asinh(t)+acosh(1+t)+atanh(t)",
    "exp(t)+expm1(t)",
    "log(t,2)+log2(t)+log10(t)+log1p(t)",
    "sqrt(t)+pow(t,2)+hypot(t,3)+hypot(1,2,t)+hypot(-2)",
    "pow(2,3)",
    "floor(-2.5)+ceil(2.1)+trunc(-2.7)",
    "fabs(-t)+fmod(-7,3)+copysign(2,-t)",
    "degrees(pi)+radians(180)",
    "isfinite(inf)",
    "isinf(inf)",
    "isnan(inf-inf)",
    "erf(t)+erfc(t)",
    "min(3, t, 2)",
    "max([t, 2, True])",
    "abs(-3)",
    "round(2.5)",
    "round(-3.14159, 2)",
    "round(1234, -2)",
    "int(-2.7)",
    "float(3)",
    "bool(.1)",
    "sum([1, t], )",
    "len([1, 2])",
    "clamp(t*10, 0, 2)",
    "e+pi+tau",
    "lr*lrs+learnrate*learnrate_scale",
    "sim*similarity",
    "t2+t3+t4+t5+ti2+ti3+ti4+ti5+time_inverse2",
    "  1 +\n\t2  \n",
]


@pytest.mark.parametrize("text", LIKE_PYTHON)
@pytest.mark.parametrize("t", [0.3, 1.0])
def test_value_is_pythons(text: str, t: float) -> None:
    context = context_at(t)
    try:
        expected = python_value(text.strip().replace("\n", " "), context)
    except (ValueError, IndexError):  # atanh(1), and (1, 2, 3)[3]
        with pytest.raises(ExpressionError):
            parse(text, EVERY).evaluate(context)
        return
    found = parse(text, EVERY).evaluate(context)
    assert type(found) is type(expected)
    assert found == expected


@pytest.mark.parametrize(
    ("t", "size"),
    [(0, 8), (1 / 8 - 1e-9, 8), (1 / 8, 16), (3 / 16, 32), (0.25, 64), (5 / 16, 128), (3 / 8, 224)],
)
def test_the_articles_sizes(t: float, size: int) -> None:
    assert value(SCHEDULE, t) == size


def test_the_ranking_scripts_sizes() -> None:
    assert [value(SIZES, t) for t in (0, 0.05, 0.1, 0.5, 1)] == [8, 16, 40, 224, 224]


@pytest.mark.parametrize(
    ("a", "b", "t", "expected"),
    [
        (0.25, 0.75, 0.0, 0.0),
        (0.25, 0.75, 0.25, 0.0),
        (0.25, 0.75, 0.5, 0.5),
        (0.25, 0.75, 0.75, 1.0),
        (0.25, 0.75, 1.0, 1.0),
        (0.75, 0.25, 0.0, 1.0),
        (0.75, 0.25, 0.5, 0.5),
        (0.75, 0.25, 1.0, 0.0),
        (0.75, 0.25, 0.375, 0.75),
        (0.5, 0.5, 0.49, 0.0),
        (0.5, 0.5, 0.5, 1.0),
        (0.5, 0.5, 1.0, 1.0),
    ],
)
def test_time_step(a: float, b: float, t: float, expected: float) -> None:
    for name in ("time_step", "ts"):
        expression = parse(f"{name}({a}, {b})", EVERY)
        assert expression.names == {"time"}
        assert expression.evaluate({"time": t}) == expected
        times = torch.tensor([t], dtype=torch.float64)
        assert compute(expression, {"time": times}).tolist() == [expected]


def test_time_context() -> None:
    assert time_context(0, 300)["time"] == 0
    assert time_context(299, 300)["time"] == 1
    assert time_context(0, 1) == time_context(0, 1) | {"time": 0, "time_inverse5": 1}
    middle = time_context(5, 11)
    assert set(middle) | {"time_step"} == VARIABLES["time"]
    assert (middle["epoch"], middle["time3"], middle["time_inverse2"]) == (5, 0.125, 0.25)
    assert parse("[10, 20, 30][epoch]", VARIABLES["time"]).evaluate(time_context(2, 3)) == 30


@pytest.mark.parametrize(("alias", "name"), list(ALIASES.items()))
def test_aliases(alias: str, name: str) -> None:
    assert any(name in group for group in VARIABLES.values())
    if name != "time_step":
        expression = parse(alias, [name])
        assert expression.names == {name}
        assert expression.evaluate(context_at(0.3)) == parse(name, [name]).evaluate(context_at(0.3))


def test_names_and_random() -> None:
    expression = parse("sim * t2 + ts(0, 1) + pi", EVERY)
    assert expression.names == {"similarity", "time2", "time"}
    assert not expression.random
    assert parse("1").names == frozenset()
    assert parse("random()*.1").random


def test_only_the_names_used_are_needed() -> None:
    assert parse("t", EVERY).evaluate({"time": 0.5}) == 0.5
    with pytest.raises(ExpressionError, match="'time' has no value"):
        parse("1+t", EVERY).evaluate({})
    with pytest.raises(ExpressionError, match="'time' has no value"):
        compute(parse("1+t", EVERY), {})


def test_a_context_of_the_wrong_kind() -> None:
    for name, wrong in [("resolution", 3), ("time", [1]), ("time", "1"), ("resolution", ["a"])]:
        with pytest.raises(ExpressionError, match="cannot be"):
            parse(name, EVERY).evaluate({name: wrong})
    with pytest.raises(ExpressionError, match="cannot be"):
        compute(parse("t", EVERY), {"time": [1.0]})


# -- random numbers ------------------------------------------------------------------------------

# text, least and greatest value, mean
RANDOM = [
    ("random()*.1", 0, 0.1, 0.05),
    ("uniform(-1, 3)", -1, 3, 1),
    ("uniform(0,.1)", 0, 0.1, 0.05),
    ("randint(1, 3)", 1, 3, 2),
    ("randrange(4)", 0, 3, 1.5),
    ("randrange(2, 10, 3)", 2, 8, 5),
    ("randrange(10, 0, -5)", 5, 10, 7.5),
    ("gauss(2, .5)", -9, 9, 2),
    ("gauss()", -9, 9, 0),
    ("normalvariate(2, .5)", -9, 9, 2),
    ("lognormvariate(0, .5)", 0, 99, math.exp(0.125)),
    ("expovariate(2)", 0, 99, 0.5),
    ("triangular()", 0, 1, 0.5),
    ("triangular(1, 4, 2)", 1, 4, 7 / 3),
    ("triangular(2, 2)", 2, 2, 2),
    ("choice([1, 2, 6])", 1, 6, 3),
    ("choice([[1, 2], [3, 4]])[0]", 1, 3, 2),
]


@pytest.mark.parametrize(("text", "least", "greatest", "mean"), RANDOM)
def test_random_functions(text: str, least: float, greatest: float, mean: float) -> None:
    expression = parse(text)
    assert expression.random
    draw = random.Random(1).random
    numbers = [
        number
        for _ in range(4000)
        if isinstance(number := expression.evaluate({}, draw), float | int)
    ]
    assert len(numbers) == 4000
    assert len(set(numbers)) > 1 or least == greatest
    generator = torch.Generator().manual_seed(1)
    drawn = compute(expression, {}, lambda: torch.rand(4000, generator=generator)).tolist()
    for found in (numbers, drawn):
        assert min(found) >= least - 1e-6
        assert max(found) <= greatest + 1e-6
        assert sum(found) / len(found) == pytest.approx(mean, rel=0.06, abs=0.05)


@pytest.mark.parametrize(("text", "least", "greatest", "mean"), RANDOM)
def test_random_on_tensors_as_on_numbers(
    text: str, least: float, greatest: float, mean: float
) -> None:
    expression = parse(text)
    stream = random.Random(2)
    rows = [[stream.random() for _ in range(4)] for _ in range(50)]
    columns = iter(torch.tensor(rows, dtype=torch.float64).unbind(1))
    expected = [expression.evaluate({}, iter(row).__next__) for row in rows]
    assert compute(expression, {}, columns.__next__).tolist() == pytest.approx(expected)


def test_randomness_comes_from_draw_alone() -> None:
    expression = parse("gauss(0, 1) + choice([1, 2]) * random()")
    a, b = ([expression.evaluate({}, random.Random(3).random) for _ in "12"] for _ in "12")
    assert a == b
    with pytest.raises(ExpressionError, match="random numbers"):
        expression.evaluate({})
    with pytest.raises(ExpressionError, match="random numbers"):
        compute(expression, {})


@pytest.mark.parametrize("u", [0.0, 1 - 2**-53])
@pytest.mark.parametrize("text", [row[0] for row in RANDOM])
def test_the_ends_of_the_draw(text: str, u: float) -> None:
    found = parse(text).evaluate({}, lambda: u)
    assert isinstance(found, int | float)
    assert math.isfinite(found)


def test_each_call_draws_anew() -> None:
    draws: list[torch.Tensor] = []

    def draw() -> torch.Tensor:
        draws.append(torch.rand(3))
        return draws[-1]

    found = compute(parse("random() - random()"), {}, draw)
    assert torch.equal(found, draws[0] - draws[1])


# -- tensors -------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", LIKE_PYTHON)
def test_tensor_agrees_with_evaluate(text: str) -> None:
    expression = parse(text, EVERY)
    try:
        expression.check_tensor()
    except ExpressionError:
        assert text == "[1] if t else [1, 2]"
        return
    times = [0.1, 0.3, 0.55, 0.9]
    contexts = [context_at(t, similarity=30 * t) for t in times]
    mixed: dict[str, object] = {**contexts[0]}
    for name in expression.names - {"resolution", "width", "height"}:
        mixed[name] = torch.tensor([c[name] for c in contexts], dtype=torch.float64)
    if not any(isinstance(mixed[name], torch.Tensor) for name in expression.names):
        expression = parse(f"({text}, 0*t)[0]" if not _is_list(expression) else text, EVERY)
        mixed["time"] = torch.tensor(times, dtype=torch.float64)
    found = compute(expression, mixed)  # type: ignore[arg-type]
    expected = torch.tensor([expression.evaluate(c) for c in contexts], dtype=torch.float64)
    torch.testing.assert_close(
        found.to(torch.float64).expand_as(expected),
        expected,
        rtol=1e-12,
        atol=1e-12,
        equal_nan=True,
    )


def _is_list(expression: Expression) -> bool:
    return expression.tree.kind.item is not None


def test_tensor_broadcasts() -> None:
    runs, views = torch.rand(3, 1), torch.rand(1, 4)
    chosen = parse("sim if t < .5 else [sim, t][1]", EVERY)
    found = compute(chosen, {"similarity": runs, "time": views})
    assert torch.equal(found, torch.where(views < 0.5, runs, views))
    stacked = compute(parse("[sim, t, 1]", EVERY), {"similarity": runs, "time": views})
    assert stacked.shape == (3, 4, 3)


def test_tensor_takes_dtype_and_device_from_the_context() -> None:
    assert compute(parse("1/2"), {}).dtype == torch.get_default_dtype()
    double = torch.ones(2, dtype=torch.float64)
    product = compute(parse("t*sim", EVERY), {"time": 0.5, "similarity": double})
    assert product.dtype == torch.float64
    count = torch.tensor([1, 2])
    assert compute(parse("epoch/2", EVERY), {"epoch": count}).tolist() == [0.5, 1.0]
    pair = torch.tensor([[4.0, 2.0], [9.0, 3.0]])
    assert compute(parse("res[0]/res[1]", EVERY), {"resolution": pair}).tolist() == [2, 3]
    meta = torch.empty(2, device="meta")
    assert compute(parse("uniform(-1, 1) * t", EVERY), {"time": 0.5}, lambda: meta).is_meta


@pytest.mark.parametrize("text", [*LIKE_PYTHON, *(row[0] for row in RANDOM)])
def test_tensor_never_waits_for_the_device(text: str) -> None:
    """Meta tensors have no values: whatever needs one of them raises."""
    expression = parse(text, EVERY)
    if text == "[1] if t else [1, 2]":
        return
    context: dict[str, object] = {name: torch.empty(3, device="meta") for name in EVERY}
    context["resolution"] = torch.empty(3, 2, device="meta")
    found = compute(expression, context, lambda: torch.empty(3, device="meta"))  # type: ignore[arg-type]
    assert found.is_meta or not (expression.names or expression.random)


def test_tensor_gives_nan_or_inf_where_numbers_raise() -> None:
    s = torch.tensor([-1.0, 0.0, 1.0, 1.5])
    inf, nan = math.inf, math.nan
    for text, expected in [
        ("1/sim", [-1, inf, 1, 1 / 1.5]),
        ("log(sim)", [nan, -inf, 0, math.log(1.5)]),
        ("sim**.5", [nan, 0, 1, 1.5**0.5]),
        ("{1: 5}[int(sim)]", [nan, nan, 5, 5]),
        ("{1: 5}.get(sim, 6)", [6, 6, 5, 6]),
        ("[7, 8][int(sim*2)]", [7, 7, nan, nan]),
    ]:
        found = compute(parse(text, EVERY), {"similarity": s})
        torch.testing.assert_close(found, torch.tensor(expected, dtype=s.dtype), equal_nan=True)


def test_tensor_is_differentiable() -> None:
    s = torch.tensor([0.25, 4.0], requires_grad=True)
    expression = parse("sqrt(sim) if sim > 1 else clamp(sim, 0, 1) * 3 + ts(.2, .2)", EVERY)
    total = compute(expression, {"similarity": s, "time": 0.5}).sum()
    assert torch.autograd.grad(total, s)[0].tolist() == [3.0, 0.25]


@pytest.mark.parametrize(
    "text", ["[1] if t else [1, 2]", "([1] if t else [1, 2])[0]", "round(t, epoch)", "round(t, 99)"]
)
def test_check_tensor_refuses_before_anything_is_computed(text: str) -> None:
    expression = parse(text, EVERY)
    with pytest.raises(ExpressionError, match="tensors"):
        expression.check_tensor()
    with pytest.raises(ExpressionError, match="tensors"):
        compute(expression, {})


def test_every_function_has_both_meanings() -> None:
    both = {"choice", "len", "round", *tensor_functions.PLAIN, *tensor_functions.RANDOM}
    assert both == set(scalar_functions.FUNCTIONS)
    assert len(both) > 40


# -- agreement with Python on random expressions -------------------------------------------------


SIGNS = "+ - * / // % ** < <= > >= == != and or"
UNARY = "- + not abs int float bool round floor ceil trunc sin exp"


def extend(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Texts one level deeper than those of `inner`."""

    def fill(form: str, *parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        return st.tuples(*parts).map(lambda texts: form.format(*texts))

    sign = st.sampled_from(SIGNS.split())
    unary = st.sampled_from(UNARY.split())
    pair = st.sampled_from(["min", "max", "atan2", "hypot", "copysign", "fmod"])
    compare = st.sampled_from(["<", "<=", "==", "!="])
    return st.one_of(
        fill("({} {} {})", inner, sign, inner),
        fill("({}({}))", unary, inner),
        fill("{}({}, {})", pair, inner, inner),
        fill("({} if {} else {})", inner, inner, inner),
        fill("({} {} {} {} {})", inner, compare, inner, compare, inner),
        fill("[{}, {}, {}][int({}) % 3]", inner, inner, inner, inner),
        fill("{{0: {}, 1: {}, {}: 3}}.get({}, {})", inner, inner, inner, inner, inner),
        fill("({} in [{}, {}])", inner, inner, inner),
        fill("clamp({}, {}, {})", inner, inner, inner),
        fill("ts({}, {})", inner, inner),
        fill("sum([{}, {}])", inner, inner),
        fill("log({})", inner),
        fill("sqrt({})", inner),
    )


LEAVES = st.one_of(
    st.integers(0, 20).map(str),
    st.sampled_from(
        ["t", "ti", "sim", "epoch", "width", "res[1]", "True", "pi", ".5", "1e-3", "2."]
    ),
)
TEXTS = st.recursive(LEAVES, extend, max_leaves=12)


@RELAXED
@given(TEXTS, st.sampled_from([0.0, 0.25, 0.7, 1.0]))
def test_random_expressions_are_pythons(text: str, t: float) -> None:
    context = context_at(t)
    expression = parse(text, EVERY)
    try:
        found = expression.evaluate(context)
    except ExpressionError as error:
        if "too large" in str(error):
            return
        assert _fails_in_python(text, context)
        return
    expected = python_value(text, context)
    assert type(found) is type(expected)
    assert found == expected or (math.isnan(found) and math.isnan(expected))  # type: ignore[arg-type]


def _fails_in_python(text: str, context: Mapping[str, object]) -> bool:
    try:
        return isinstance(python_value(text, context), complex)
    except (ArithmeticError, ValueError, LookupError, TypeError):
        return True


@RELAXED
@given(TEXTS)
def test_random_expressions_on_tensors(text: str) -> None:
    expression = parse(text, EVERY)
    contexts = [context_at(t, similarity=40 * t - 10) for t in (0.0, 0.25, 0.7, 1.0)]
    context: dict[str, object] = {
        name: torch.tensor([c[name] for c in contexts], dtype=torch.float64)
        for name in expression.names
    }
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        found = compute(expression, context).expand(len(contexts)).tolist()  # type: ignore[arg-type]
    finally:
        torch.set_default_dtype(default)
    for one, tensor_value in zip(contexts, found, strict=True):
        try:
            number = expression.evaluate(one)
        except ExpressionError:
            continue  # tensors give inf or nan, or a value that needs no untaken branch
        assert isinstance(number, int | float)
        if _is_smooth(text, one, number):
            assert tensor_value == pytest.approx(float(number), rel=1e-6, abs=1e-9, nan_ok=True)


def _is_smooth(text: str, context: Mapping[str, object], number: float) -> bool:
    """Whether `number` stands firm under rounding: no jump nearby, integers below 2**53."""
    nudged = {k: v * (1 + 1e-13) if isinstance(v, float) else v for k, v in context.items()}
    try:
        other = parse(text, EVERY).evaluate(nudged)
    except ExpressionError:
        return False
    assert isinstance(other, int | float)
    return abs(number) < 1e15 and math.isclose(other, number, rel_tol=1e-7, abs_tol=1e-10)


# -- the object ----------------------------------------------------------------------------------


def test_equality_hash_and_copies() -> None:
    text = "(" * 18 + "+".join(["t"] * 60) + ")" * 18
    one, two = parse(text, VARIABLES["time"]), parse(text, sorted(VARIABLES["time"]))
    assert one == two
    assert hash(one) == hash(two)
    assert one != parse(text, EVERY)
    assert one != parse("t", VARIABLES["time"])
    copies: list[Callable[[Expression], Expression]] = [
        copy.copy,
        copy.deepcopy,
        lambda x: pickle.loads(pickle.dumps(x)),
    ]
    for make in copies:
        made = make(one)
        assert made == one
        assert hash(made) == hash(one)
        assert made.names == one.names
        assert made.evaluate({"time": 0.5}) == 30
    assert "Number" not in repr(one)
    with pytest.raises(AttributeError):
        one.text = "1"  # type: ignore[misc]


def test_parsing_does_not_import_torch() -> None:
    code = "import sys; from clipig.values.expressions import parse; parse('1').evaluate({}); "
    code += "print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
