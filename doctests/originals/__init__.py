"""Run the documents of 2007 that describe ZRS, unchanged, with this package.

The documents are written for Python 2.4, ZODB 3.8 and a test reactor that no longer exists.
This package supplies that environment, and nothing that the documents describe:

- `document`: finds a document, verifies that it is the original, and translates its examples
- `python2`: the records as ZODB wrote them in 2007, and header pickles
- `clock`: the time of 2007, a second for each transaction
- `connection` and `reactor`: a reactor with connections made by the document itself
- `checker`: allowed differences between the text of 2007 and today's output
- `world`: sets all of it up during a run
- `guide`: the same for the guide to dobbin, of 2009
- `runner`: runs the examples and reports the results
- `mutations`: documents with one digit changed, which must fail
"""
