"""Runs the documents of 2007 that describe ZRS, unchanged, against this package.

The documents are written for Python 2.4, ZODB 3.8 and a test reactor that nobody has any
more. This package supplies that world, and nothing of what the documents are about:

- `document`: finds a document, checks that it is the original, translates its examples
- `python2`: the records as ZODB wrote them in 2007, and header pickles
- `clock`: the time of 2007, a second for each transaction
- `connection` and `reactor`: a reactor whose connections the document itself makes
- `checker`: what may differ between the text of 2007 and today's output
- `world`: puts all of it in place for the time of a run
- `guide`: the same for the guide to dobbin, of 2009
- `runner`: runs the examples and tells what came out
- `mutations`: documents with one digit changed, which must fail
"""
