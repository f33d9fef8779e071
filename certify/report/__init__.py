"""Reports: a verified case as a page that a judge can read.

    markup.py    elements, in which everything is text unless it was made here
    chart.py     intervals and shares as SVG
    words.py     what happened when, and what a verdict means, in words
    audited.py   the audits of a case, with their figures
    html.py      the page
    style.py     how it looks, on screens and on paper

Pure functions of what the verifier returns; like it, they need neither network nor torch.
"""

from certify.report.html import Source, html, refused

__all__ = ["Source", "html", "refused"]
