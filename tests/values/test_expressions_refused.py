"""What the formula language refuses: escapes, other text, faults with their places."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipig.errors import ExpressionError
from clipig.values.expressions import VARIABLES, parse, time_context
from tests.support.formulas import EVERY, RELAXED, context_at

ESCAPES = [
    "__import__('os').system('true')",
    "__import__",
    "__builtins__",
    "().__class__",
    "().__class__.__bases__[0].__subclasses__()",
    "(1).__class__",
    "1 .real",
    "t.__class__",
    "{}.get.__self__",
    "{1: 2}.get.__self__",
    "{1: 2}.get",
    "{1: 2}.pop(1)",
    "{1: 2}.__class__",
    "[].append",
    "[1].append(2)",
    "[1].get(0)",
    "t.get(0)",
    "res.get(0)",
    "{1: {2: 3}}.get(1).get(2)",
    "({1: 2} if t else {3: 4}).get(1)",
    "{1: 2}.get(*[1])",
    "{1: 2}.get(key=1)",
    "getattr(t, 'real')",
    "getattr(t, real)",
    "setattr(t, 1, 2)",
    "eval(1)",
    "exec(1)",
    "compile(1)",
    "open(1)",
    "input()",
    "print(1)",
    "globals()",
    "locals()",
    "vars()",
    "dir()",
    "type(1)",
    "object",
    "breakpoint()",
    "exit()",
    "help",
    "seed(1)",
    "'text'",
    '"a" * 3',
    "b'1'",
    "f'{t}'",
    "f'{t.__class__}'",
    "'{0.__class__}'.format(t)",
    "'%s' % t",
    "[x for x in (1, 2)]",
    "{x for x in (1, 2)}",
    "{x: x for x in (1, 2)}",
    "sum(x for x in (1, 2))",
    "lambda: 1",
    "(lambda: 1)()",
    "(x := 1)",
    "x = 1",
    "t = 1",
    "import os",
    "1; 2",
    "del t",
    "await t",
    "(yield)",
    "(yield 1)",
    "(yield from t)",
    "*[1]",
    "[*res]",
    "max(*res)",
    "max(**{1: 2})",
    "{**{1: 2}}[1]",
    "round(t, ndigits=2)",
    "{1, 2}",
    "[1, 2][0:1]",
    "[1, 2][:]",
    "[1, 2][0, 1]",
    "[1, 2][...]",
    "...",
    "None",
    "1j",
    "1 is 1",
    "1 is not 1",
    "1 << 100000",
    "1 >> 1",
    "1 & 1",
    "1 | 1",
    "1 ^ 1",
    "~1",
    "1 @ 1",
    "[0] * 10**9",
    "(0,) * 10**9",
    "[0] + [1]",
    "-[1]",
    "9**9**9",
    "2**100000",
    "10**10**10",
    "(-9)**9**9",
    "2**64",
    "2**62*4",
    "10**19",
    "99999999999999999999",
    "0x" + "f" * 1000,
    "int(1e300)",
    "int(inf)",
    "floor(1e30)",
    "round(5, -10**9)",
    "round(5, -10**18)",
    "randrange(1, 10, 0)",
    "randrange(.5)",
    "randint(2, 1)",
    "randint(0, 1e300)",
    "factorial(10**6)",
    "range(10)",
    "int('9')",
    "(-1)**.5",
    "1/0",
    "1//0",
    "1%0",
    "0**-1",
    "1.5**1e6",
    "exp(1000)",
    "log(0)",
    "sqrt(-1)",
    "acos(2)",
    "[1, 2][2]",
    "[1, 2][-3]",
    "[1, 2][t]",
    "[1, 2][epoch]",
    "res[2]",
    "t[0]",
    "{1: 2}[3]",
    "{1: 2}.get(3)",
    "{1: 2}",
    "{}",
    "[]",
    "()",
    "[[1]]",
    "[1, [2]]",
    "{1: 2, 3: [4]}[1]",
    "{[1]: 2}[1]",
    "1 if t else [1]",
    "t and [1]",
    "res == 1",
    "1 < [2]",
    "1 in t",
    "1 in [2] in [3]",
    "min(t)",
    "max()",
    "min([[1]])",
    "sum(1)",
    "len(t)",
    "sin(res)",
    "sin()",
    "sin(1, 2)",
    "ts(1)",
    "ts",
    "ts(1, 2, 3)",
    "random",
    "t()",
    "sin(1)()",
    "sin.__call__(1)",
    "math.sin(1)",
    "foo",
    "foo(1)",
    "",
    "  \n ",
    "(",
    "1)+(2",
    "1 +",
    "1 2",
    "50%",
    "2t",
    "1,,2",
    "t # comment",
    "t \\\n + 1",
    "\x00",
    "1\x00+1",
    "\ud800",
    "1\u00a0+ 1",
    "\uff54",  # fullwidth t, which Python reads as t
    "\uff3f\uff3fimport\uff3f\uff3f",
    "\U0001d42d",  # mathematical bold t
    "\u0661",  # an Arabic digit
    "2 \u00d7 3",
    "1 \u2212 1",
    "\ufeff1",
    "\u202e1",
    "(" * 1000 + "1" + ")" * 1000,
    "[" * 1000,
    "{1:" * 300,
    "sin(" * 300 + "1" + ")" * 300,
    "-" * 1999 + "1",
    "~" * 1999 + "1",
    "not " * 400 + "1",
    "1 if 1 else " * 150 + "1",
    "2**" * 600 + "2",
    "1+" * 900 + "1",
    "x." * 900 + "x",
    "x" + "()" * 900,
    "x" + "[0]" * 600,
    "lambda:" * 250 + "1",
    "1," * 900,
    "1 and " * 300 + "1 1",
    "[" + "9**9," * 300 + "]",
    "1" * 2001,
    " " * 100_000 + "1",
]


def test_escapes_are_many() -> None:
    assert len(ESCAPES) == len(set(ESCAPES)) > 150


@pytest.mark.timeout(10)  # milliseconds, in fact: nothing may grow without bound
@pytest.mark.parametrize("text", ESCAPES, ids=lambda text: ascii(text)[:30])
def test_escape_is_refused_at_once(text: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        parse(text, EVERY).evaluate(context_at(0.3), lambda: 0.5)
    assert 0 <= caught.value.offset <= len(text)
    assert len(str(caught.value)) < 700
    str(caught.value).encode()


@RELAXED
@given(st.text(max_size=30) | st.text("()[]{}.,:*-+/t1e<=>_ \n#'\\\"ifnotelsr", max_size=40))
def test_any_text_gives_an_expression_or_the_one_error(text: str) -> None:
    offset = 0
    try:
        parse(text, EVERY).evaluate(context_at(0.3), lambda: 0.5)
    except ExpressionError as error:
        offset = error.offset
    assert 0 <= offset <= len(text)


@pytest.mark.parametrize(
    ("text", "offset", "message"),
    [
        ("1 + tme", 4, "unknown name 'tme'; did you mean 'time'? available are epoch, time (t),"),
        ("zzzz", 0, "unknown name 'zzzz'; available are epoch"),
        ("1 + sim", 4, "the variable 'sim' is not available here; available are epoch"),
        ("2 * maxx(1, 2)", 4, "unknown function 'maxx'; did you mean 'max'? available are abs,"),
        ("\n  2 *\n  foo", 9, "unknown name 'foo'"),
        ("1 + t(2)", 4, "'t' is a variable, not a function"),
        ("sim(2)", 0, "'sim' is a variable, not a function"),
        ("1 + sin", 4, "'sin' is a function: write sin(...)"),
        ("1 + ts", 4, "'ts' is a function: write ts(a, b)"),
        ("2 + random.random()", 4, "'.random' is not allowed, write 'random' alone"),
        ("(1).real", 0, "'.real' is not allowed, only {...}.get(key, default) is"),
        ("2*seed(1)", 2, "set the key 'seed'"),
        ("1 + atan2(1)", 4, "atan2 takes 2 arguments, found 1"),
        ("ts(1)", 0, "ts takes 2 arguments, found 1"),
        ("max()", 0, "max takes at least 1 arguments, found 0"),
        ("round(t, n=2)", 9, "the named argument 'n=' is not allowed"),
        ("2 + [1]", 4, "the value after '+' must be a number, found a list"),
        ("[1, [2]]", 0, "the items of a list must be of one kind, found a list and a number"),
        ("[1, 2][t]", 7, "an index must be a whole number: write int(...)"),
        ("[1, 2][2]", 7, "no item 2 in a list of 2"),
        ("1 ^ 2", 0, "a power is written x**y"),
        ("t = 1", 2, "equality is written '=='"),
        ("1 +", 3, "it ends too early"),
        ("(1", 0, "'(' was never closed"),
        ("1 + \u00d7", 4, "multiply with *"),
        ("1 + 'a'", 4, "text is not allowed"),
        ("1\x00", 1, "U+0000"),
        ("", 0, "empty"),
        ("1" * 2001, 2000, "2001 characters, allowed are 2000"),
    ],
)
def test_what_parse_says_and_where(text: str, offset: int, message: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        parse(text, VARIABLES["time"])
    assert message in str(caught.value)
    assert caught.value.offset == offset


@pytest.mark.parametrize(
    ("text", "offset", "message"),
    [
        ("1 + 1/t", 4, "division by zero in 1 / 0.0"),
        ("2*log(t)", 2, "math domain error in log(0.0)"),
        ("1 + exp(1e3)", 4, "math range error in exp(1000.0)"),
        ("1 + {1: 2}[epoch]", 4, "no key 0 in the dict"),
        ("1 + [1, 2][epoch+5]", 4, "no item 5 in a list of 2"),
        ("1 + (t-1)**.5", 4, "is not a real number"),
        ("1 + 9**9**9", 4, "the integer 9 ** 387420489 is too large"),
        ("1 + round(1.5, 99)", 4, "digits must be a whole number from -15 to 15, not 99"),
    ],
)
def test_what_evaluate_says_and_where(text: str, offset: int, message: str) -> None:
    expression = parse(text, VARIABLES["time"])
    with pytest.raises(ExpressionError) as caught:
        expression.evaluate(time_context(0, 10))
    assert message in str(caught.value)
    assert caught.value.offset == offset


def test_no_variables_unless_they_are_given() -> None:
    with pytest.raises(ExpressionError, match="available are pi, e, tau, inf"):
        parse("t")
    with pytest.raises(ExpressionError, match="not available here: it needs the time"):
        parse("ts(0, 1)")
    with pytest.raises(ValueError, match="not canonical"):
        parse("t", ["t"])
