"""Go's text/template, as far as people use it behind `--format`: a small language over plain data.

    parse_template(text).execute(data) -> str

Actions, pipelines, variables, `if`, `with`, `range`, `break`, `continue`, `define`, `template` and
`block`, trim markers and comments, and the functions of Go (without call, html, js, urlquery) and of
Docker's client. Texts of errors are Go's. Data are dicts, lists, texts, numbers and booleans: nothing of
Python can be reached from a template, and how deep it nests, how long it runs and how much it prints is
bounded.
"""

from onggi.cli.template.evaluate import Template, parse_template
from onggi.cli.template.values import NIL, Map, Method, NilList, NilMap, Object, Row, TemplateError

__all__ = ["NIL", "Map", "Method", "NilList", "NilMap", "Object", "Row", "Template", "TemplateError", "parse_template"]
