"""The Reliability Brief: one page a release, in three languages, each number from a stored verdict or record.

Read `blocks.py` (what is told, in ten blocks), then `page.py` (how) and `fit.py` (one page, whatever there is to tell).

records.py  what the store has of a release, read at once
figure.py   a number with its unit and the record that it is from
blocks.py   records -> the ten blocks, which are the JSON twin
locales/    the words, one file a language; locale.py writes numbers and dates as readers expect them
page.py     twin + locale -> HTML
fit.py      HTML -> PDF of one page: what is cut is counted

May import: floors 0-5, `release/store`, `release/review`, `release/budget`. weasyprint stays here.
"""
