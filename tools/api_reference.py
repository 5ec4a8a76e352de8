"""Render the API reference of the installed package from its docstrings: api_reference.py FOLDER.

What rosidl generates is left out (the comments in msg/, srv/ and action/ describe it), and so is what only starts
commands. A package that lists its public names in __all__ shows those alone. Ends with status 1 where a module cannot
be imported or an annotation cannot be read.
"""

import os
import sys
import warnings
from pathlib import Path

import pdoc
import pdoc.render

PACKAGE = "mirage_ros"
LEFT_OUT = (rf"!{PACKAGE}\.(msg|srv|action)(\..*)?", rf"!{PACKAGE}\..*__main__")

if __name__ == "__main__":
    folder = Path(sys.argv[1]).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    # Away from the sources, which pdoc would take for a rival of the installed package.
    os.chdir(folder)
    with warnings.catch_warnings(record=True) as caught:
        # pdoc says so where it cannot do something; other libraries' advice about themselves is not meant here.
        warnings.filterwarnings("ignore")
        warnings.filterwarnings("always", module=r"pdoc(\..*)?")
        # A dataclass's constructor has its parents' annotations, whose names need not be known where it stands.
        warnings.filterwarnings("ignore", message=r"Error parsing type annotation .* for \S+\.__init__\.")
        pdoc.render.configure(docformat="google", show_source=False)
        pdoc.pdoc(PACKAGE, *LEFT_OUT, output_directory=folder)
    for warning in caught:
        print(f"{warning.filename}:{warning.lineno}: {warning.message}", file=sys.stderr)
    pages = sum(1 for _ in folder.rglob("*.html"))
    print(f"{pages} pages in {folder}, {len(caught)} warnings")
    sys.exit(1 if caught else 0)
