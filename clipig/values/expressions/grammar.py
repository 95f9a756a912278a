"""From text to a checked tree: what is not named here is refused.

Python's own parser reads the text, so precedence and spelling are Python's; nothing is compiled or
run. Every limit below keeps the time to parse and to evaluate short whatever the text says.
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Sequence as SequenceOf
from typing import NoReturn

from clipig.errors import ExpressionError
from clipig.values.expressions import tree
from clipig.values.expressions.functions import FUNCTIONS, NUMBERS
from clipig.values.expressions.names import ALIASES, PAIRS, VARIABLES, WHOLE_NUMBERS
from clipig.values.expressions.tree import REAL, WHOLE, Kind, Node
from clipig.values.faults import nearest

MAX_LENGTH = 2000
MAX_BRACKETS = 20
MAX_DEPTH = 100
MAX_NODES = 500
MAX_INT = 2**63

ARITHMETIC: dict[type[ast.AST], str] = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.Div: "/",
    ast.FloorDiv: "//",
    ast.Mod: "%",
    ast.Pow: "**",
}
SIGNS: dict[type[ast.AST], str] = {ast.UAdd: "+", ast.USub: "-", ast.Not: "not"}
COMPARISONS: dict[type[ast.AST], str] = {
    ast.Eq: "==",
    ast.NotEq: "!=",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
    ast.In: "in",
    ast.NotIn: "not in",
}
REFUSED: dict[type[ast.AST], str] = {
    ast.Lambda: "'lambda' is not allowed",
    ast.ListComp: "a comprehension ('for' in brackets) is not allowed: write the items out",
    ast.SetComp: "a comprehension ('for' in braces) is not allowed: write the items out",
    ast.DictComp: "a comprehension ('for' in braces) is not allowed: write the entries out",
    ast.GeneratorExp: "a comprehension ('for') is not allowed: write the items out",
    ast.NamedExpr: "':=' is not allowed: write the value where it is used",
    ast.Starred: "'*' before a value is not allowed: write the items out",
    ast.Set: "a set is not allowed: write a list, [a, b]",
    ast.Slice: "a slice (':' in an index) is not allowed: take one item, or write a list",
    ast.Await: "'await' is not allowed",
    ast.Yield: "'yield' is not allowed",
    ast.YieldFrom: "'yield' is not allowed",
    ast.BitXor: "'^' is not allowed: a power is written x**y",
    ast.BitAnd: "'&' is not allowed: write 'and'",
    ast.BitOr: "'|' is not allowed: write 'or'",
    ast.Invert: "'~' is not allowed: write 'not'",
    ast.LShift: "'<<' is not allowed: write x * 2**n",
    ast.RShift: "'>>' is not allowed: write x // 2**n",
    ast.MatMult: "'@' is not allowed",
    ast.Is: "'is' is not allowed: write '=='",
    ast.IsNot: "'is not' is not allowed: write '!='",
}
CHARACTERS = {
    "'": "text is not allowed, only numbers",
    '"': "text is not allowed, only numbers",
    "\\": "expressions have no '\\'",
    "#": "comments are not allowed inside an expression",
    "\u00d7": "multiply with *",
    "\u00f7": "divide with /",
    "\u2212": "write minus as -",
    "\u2013": "write minus as -",
    "\u00b2": "a power is written x**2",
    "\u00b3": "a power is written x**3",
    "\u03c0": "write pi",
    "\u2264": "write <=",
    "\u2265": "write >=",
    "\u2260": "write !=",
    "\u00a0": "this is a non-breaking space, write a common one",
}


def read(text: str, allowed: frozenset[str]) -> Node:
    """The checked tree of `text`, which may use the canonical variables in `allowed`."""
    _check_characters(text)
    flat = "".join(" " if c.isspace() else c for c in text)
    start = len(flat) - len(flat.lstrip())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            body = ast.parse(flat.strip(), mode="eval").body
    except SyntaxError as error:
        _refuse_syntax(error, text, start)
    except (RecursionError, MemoryError, ValueError, OverflowError):
        raise ExpressionError("the expression is nested too deeply", start) from None
    builder = _NodeBuilder(allowed, start)
    node = builder.build(body)
    if node.kind.item is not None and node.kind.item.item is not None:
        raise ExpressionError("the result must be a number or a list of numbers", node.offset)
    return node


def _check_characters(text: str) -> None:
    if len(text) > MAX_LENGTH:
        raise ExpressionError(
            f"the expression has {len(text)} characters, allowed are {MAX_LENGTH}", MAX_LENGTH
        )
    if not text.strip():
        raise ExpressionError("the expression is empty")
    depth = 0
    for offset, char in enumerate(text):
        if char in CHARACTERS or not (" " <= char <= "~" or char in "\t\r\n"):
            hint = CHARACTERS.get(char, "an expression is plain ASCII")
            shown = repr(char) if char.isprintable() else f"U+{ord(char):04X}"
            raise ExpressionError(f"unexpected character {shown}: {hint}", offset)
        depth += (char in "([{") - (char in ")]}")
        if depth > MAX_BRACKETS:
            raise ExpressionError(f"more than {MAX_BRACKETS} brackets inside each other", offset)


def _refuse_syntax(error: SyntaxError, text: str, start: int) -> NoReturn:
    end = len(text.rstrip())
    offset = min(start + error.offset - 1, end) if error.offset else end
    reason = error.msg.split(" Maybe ")[0].rstrip(".")
    if "too many nested" in reason:
        raise ExpressionError("the expression is nested too deeply", offset) from None
    if reason == "invalid syntax":
        rest = text[offset:].split()
        reason = f"found {rest[0][:20]!r}" if rest else "it ends too early"
        if rest and rest[0] == "=":
            reason += " (equality is written '==')"
    raise ExpressionError(f"not a valid expression: {reason}", offset) from None


class _NodeBuilder:
    """Turns Python's syntax tree into ours, one method for each construct allowed."""

    def __init__(self, allowed: frozenset[str], start: int) -> None:
        self.allowed = allowed
        self.start = start
        self.nodes = 0
        self.depth = 0

    def build(self, node: ast.expr) -> Node:
        """The checked node for `node`, whose class names the method that builds it."""
        self.nodes += 1
        if self.nodes > MAX_NODES:
            self.fail(node, f"the expression has more than {MAX_NODES} parts")
        if self.depth >= MAX_DEPTH:
            self.fail(node, f"the expression is nested more than {MAX_DEPTH} deep")
        method = getattr(self, f"build_{type(node).__name__.lower()}", None)
        if method is None:
            self.fail(node, REFUSED.get(type(node), f"{type(node).__name__} is not allowed"))
        self.depth += 1
        result: Node = method(node)
        self.depth -= 1
        return result

    def offset(self, node: ast.expr | ast.keyword) -> int:
        return self.start + node.col_offset

    def fail(self, node: ast.expr | ast.keyword, message: str) -> NoReturn:
        raise ExpressionError(message, self.offset(node))

    def number(self, node: ast.expr, what: str) -> Node:
        """`node` as something that yields a number."""
        built = self.build(node)
        if built.kind.item is not None:
            self.fail(node, f"{what} must be a number, found {built.kind}")
        return built

    def operator(self, node: ast.expr, operator: ast.AST, table: dict[type[ast.AST], str]) -> str:
        if type(operator) not in table:
            self.fail(node, REFUSED[type(operator)])
        return table[type(operator)]

    def common(self, node: ast.expr, parts: SequenceOf[Node], what: str) -> Kind:
        kind: Kind | None = parts[0].kind
        for part in parts[1:]:
            kind = kind and tree.join(kind, part.kind)
        if kind is None:
            found = " and ".join(sorted({str(part.kind) for part in parts}))
            self.fail(node, f"{what} must be of one kind, found {found}")
        return kind

    # -- values ----------------------------------------------------------------------------------

    def build_constant(self, node: ast.Constant) -> Node:
        value = node.value
        if not isinstance(value, bool | int | float):
            self.fail(node, f"{value!r} is not a number")
        if isinstance(value, int) and abs(value) > MAX_INT:
            self.fail(node, "the integer is too large")
        return tree.Number(self.offset(node), REAL if isinstance(value, float) else WHOLE, value)

    def build_name(self, node: ast.Name) -> Node:
        offset = self.offset(node)
        if node.id in NUMBERS:
            return tree.Number(offset, REAL, NUMBERS[node.id])
        name = ALIASES.get(node.id, node.id)
        if name == "time_step" and name in self.allowed:
            self.fail(node, f"{node.id!r} is a function: write {node.id}(a, b)")
        if name in self.allowed:
            return self.variable(offset, name)
        if name in FUNCTIONS and name != "time_step":
            self.fail(node, f"{node.id!r} is a function: write {node.id}(...)")
        self.refuse_name(node)

    def variable(self, offset: int, name: str) -> Node:
        kind = WHOLE if name in WHOLE_NUMBERS else REAL
        if name in PAIRS:
            kind = Kind(item=WHOLE, length=2)
        return tree.Variable(offset, kind, name)

    def refuse_name(self, node: ast.Name) -> NoReturn:
        """Say what stands there, what could, and the nearest of these."""
        short = {name: alias for alias, name in ALIASES.items()}
        names = sorted(self.allowed)
        shown = [f"{n} ({short[n]})" if n in short else n for n in names]
        choices = ", ".join([*shown, *NUMBERS])
        known = ALIASES.get(node.id, node.id) in frozenset().union(*VARIABLES.values())
        if known:
            reason = f"the variable {node.id!r} is not available here;"
        else:
            words = [*names, *(short[n] for n in names if n in short), *NUMBERS, *FUNCTIONS]
            reason = f"unknown name {node.id!r}{nearest(node.id, words) or ';'}"
        self.fail(node, f"{reason} available are {choices}")

    def build_list(self, node: ast.List | ast.Tuple) -> Node:
        if not node.elts:
            self.fail(node, "an empty list is not allowed")
        items = tuple(self.build(item) for item in node.elts)
        kind = Kind(item=self.common(node, items, "the items of a list"), length=len(items))
        return tree.Sequence(self.offset(node), kind, items, isinstance(node, ast.Tuple))

    build_tuple = build_list

    def build_dict(self, node: ast.Dict) -> Node:
        self.fail(node, "a dict must be followed by [key] or .get(key, default)")

    # -- operators -------------------------------------------------------------------------------

    def build_unaryop(self, node: ast.UnaryOp) -> Node:
        sign = self.operator(node, node.op, SIGNS)
        operand = self.number(node.operand, f"the value after {sign!r}")
        kind = WHOLE if sign == "not" else Kind(real=operand.kind.real)
        return tree.Unary(self.offset(node), kind, sign, operand)

    def build_binop(self, node: ast.BinOp) -> Node:
        sign = self.operator(node, node.op, ARITHMETIC)
        left = self.number(node.left, f"the value before {sign!r}")
        right = self.number(node.right, f"the value after {sign!r}")
        real = sign == "/" or left.kind.real or right.kind.real
        return tree.Binary(self.offset(node), Kind(real=real), sign, left, right)

    def build_boolop(self, node: ast.BoolOp) -> Node:
        sign = "and" if isinstance(node.op, ast.And) else "or"
        operands = tuple(self.number(value, f"a value of {sign!r}") for value in node.values)
        kind = self.common(node, operands, "the values")
        return tree.Logic(self.offset(node), kind, sign, operands)

    def build_compare(self, node: ast.Compare) -> Node:
        signs = tuple(self.operator(node, operator, COMPARISONS) for operator in node.ops)
        operands = [self.number(node.left, f"the value before {signs[0]!r}")]
        for position, (sign, operand) in enumerate(zip(signs, node.comparators, strict=True)):
            if sign not in ("in", "not in"):
                operands.append(self.number(operand, f"the value after {sign!r}"))
                continue
            if position + 1 < len(signs):
                self.fail(node, f"{sign!r} must be the last comparison of a chain")
            operands.append(self.build(operand))
            if (item := operands[-1].kind.item) is None or item.item is not None:
                self.fail(operand, f"the value after {sign!r} must be a list of numbers")
        return tree.Comparison(self.offset(node), WHOLE, signs, tuple(operands))

    def build_ifexp(self, node: ast.IfExp) -> Node:
        test = self.number(node.test, "the condition")
        yes, no = self.build(node.body), self.build(node.orelse)
        kind = self.common(node, (yes, no), "both values of 'if'")
        return tree.Condition(self.offset(node), kind, test, yes, no)

    # -- access ----------------------------------------------------------------------------------

    def build_subscript(self, node: ast.Subscript) -> Node:
        if isinstance(node.value, ast.Dict):
            return self.lookup(node, node.value, node.slice, None)
        base = self.build(node.value)
        if base.kind.item is None:
            self.fail(node.value, "only a list or a dict can be followed by [...], found a number")
        if isinstance(node.slice, ast.Tuple):
            self.fail(node.slice, "one index is allowed, found several")
        index = self.number(node.slice, "an index")
        if index.kind.real:
            self.fail(node.slice, "an index must be a whole number: write int(...)")
        position, length = tree.literal(index), base.kind.length
        if position is not None and length and not -length <= position < length:
            self.fail(node.slice, f"no item {position} in a list of {length}")
        return tree.Item(self.offset(node), base.kind.item, base, index)

    def lookup(
        self, node: ast.expr, table: ast.Dict, key: ast.expr, default: ast.expr | None
    ) -> Node:
        if not table.keys:
            self.fail(table, "an empty dict is not allowed")
        self.nodes += 1
        keys, values = [], []
        for k, v in zip(table.keys, table.values, strict=True):
            if k is None:
                self.fail(v, "'**' before a value is not allowed: write the entries out")
            keys.append(self.number(k, "a key"))
            values.append(self.build(v))
        found = self.number(key, "a key")
        fallback = None if default is None else self.build(default)
        results = values if fallback is None else [*values, fallback]
        kind = self.common(node, results, "the values of a dict")
        return tree.Lookup(self.offset(node), kind, tuple(keys), tuple(values), found, fallback)

    def build_attribute(self, node: ast.Attribute) -> NoReturn:
        hint = "only {...}.get(key, default) is"
        if isinstance(node.value, ast.Name) and node.attr in (*FUNCTIONS, *NUMBERS):
            hint = f"write {node.attr!r} alone"
        self.fail(node, f"'.{node.attr[:40]}' is not allowed, {hint}")

    # -- calls -----------------------------------------------------------------------------------

    def build_call(self, node: ast.Call) -> Node:
        for keyword in node.keywords:
            what = f"the named argument '{keyword.arg}='" if keyword.arg else "'**'"
            self.fail(keyword, f"{what} is not allowed: give the values in order")
        function = node.func
        if isinstance(function, ast.Attribute):
            if function.attr != "get" or not isinstance(function.value, ast.Dict):
                self.build_attribute(function)
            if not 1 <= len(node.args) <= 2:
                self.fail(node, f"get takes 1 to 2 arguments, found {len(node.args)}")
            default = node.args[1] if len(node.args) > 1 else None
            return self.lookup(node, function.value, node.args[0], default)
        if not isinstance(function, ast.Name):
            self.fail(node, "only a function can be called, by its name")
        name = self.function_name(function)
        row = FUNCTIONS[name]
        count = len(node.args)
        if count < row.least or (row.most is not None and count > row.most):
            self.fail(node, f"{function.id} takes {row.arity} arguments, found {count}")
        takes_list = row.takes == "list" or (row.takes == "either" and count == 1)
        arguments = [self.argument(arg, function.id, takes_list) for arg in node.args]
        if name == "time_step":
            arguments.insert(0, self.variable(self.offset(node), "time"))
        return tree.Call(self.offset(node), self.result(name, arguments), name, tuple(arguments))

    def function_name(self, node: ast.Name) -> str:
        name = ALIASES.get(node.id, node.id)
        if name == "seed":
            self.fail(node, "seed(...) is not allowed: set the key 'seed' of the config instead")
        if name != "time_step" and any(name in group for group in VARIABLES.values()):
            self.fail(node, f"{node.id!r} is a variable, not a function")
        if name == "time_step" and name not in self.allowed:
            self.fail(node, f"the function {node.id!r} is not available here: it needs the time")
        if name not in FUNCTIONS:
            choices = [*FUNCTIONS, *(("ts",) if "time_step" in self.allowed else ())]
            if "time_step" not in self.allowed:
                choices.remove("time_step")
            known = ", ".join(sorted(choices))
            near = nearest(node.id, choices) or ";"
            self.fail(node, f"unknown function {node.id!r}{near} available are {known}")
        return name

    def argument(self, node: ast.expr, function: str, takes_list: bool) -> Node:
        if not takes_list:
            return self.number(node, f"an argument of {function}")
        built = self.build(node)
        if built.kind.item is None:
            self.fail(node, f"{function} needs a list here, found a number")
        if built.kind.item.item is not None and function not in ("choice", "len"):
            self.fail(node, f"{function} needs a list of numbers, found a list of lists")
        return built

    def result(self, name: str, arguments: SequenceOf[Node]) -> Kind:
        gives = FUNCTIONS[name].gives
        kinds = [arg.kind.item or arg.kind for arg in arguments]
        if gives == "item":
            return kinds[0]
        if gives == "same" and not (name == "round" and len(kinds) == 1):
            return Kind(real=any(kind.real for kind in kinds))
        return REAL if gives == "real" else WHOLE
