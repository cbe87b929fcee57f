"""The words of the synthetic reports: companies, statements, line items and the ways people ask for them.

Everything is lower case and tokenised with spaces, as FinQA's authors left the real pages. Companies are pairs
of shared words, so that a company of the test split is a new pair of known words, never an unknown token.
"""

from __future__ import annotations

from dataclasses import dataclass

COMPANY_FIRST = (
    "northern pacific summit harbor cedar granite silver prairie atlas beacon crescent delta evergreen "
    "frontier golden liberty"
).split()
COMPANY_SECOND = (
    "steel foods energy motors paper airlines media chemical rail insurance software mining retail pharma"
).split()

SEGMENTS = ("europe segment", "asia segment", "parent company", "consumer segment", "industrial segment")


@dataclass(frozen=True)
class LineItem:
    """One line of a statement: `labels` are the names it goes by, `scale` its usual size against the others."""

    labels: tuple[str, ...]
    scale: float
    is_percent: bool = False


@dataclass(frozen=True)
class Statement:
    """A kind of page: its titles and its lines."""

    titles: tuple[str, ...]
    items: tuple[LineItem, ...]


def _item(labels: str, scale: float, *, is_percent: bool = False) -> LineItem:
    return LineItem(tuple(label.strip() for label in labels.split("|")), scale, is_percent)


STATEMENTS = (
    Statement(
        ("statements of income", "results of operations"),
        (
            _item("net sales | revenue | total revenues", 1.0),
            _item("cost of sales | cost of goods sold", 0.6),
            _item("gross profit | gross margin", 0.4),
            _item("operating income | operating profit", 0.2),
            _item("interest expense | interest charges", 0.05),
            _item("net income | net earnings", 0.12),
            _item("selling expenses | marketing costs", 0.15),
        ),
    ),
    Statement(
        ("balance sheets", "financial position"),
        (
            _item("cash and equivalents | cash balance", 0.2),
            _item("accounts receivable | trade receivables", 0.3),
            _item("inventories | inventory", 0.25),
            _item("total assets | assets", 1.0),
            _item("accounts payable | trade payables", 0.2),
            _item("total liabilities | liabilities", 0.6),
            _item("shareholders equity | stockholders equity", 0.4),
        ),
    ),
    Statement(
        ("statements of cash flows", "liquidity and capital resources"),
        (
            _item("operating cash flow | cash provided by operations", 0.8),
            _item("capital expenditures | capital spending", 0.4),
            _item("dividends paid | dividend payments", 0.2),
            _item("share repurchases | stock buybacks", 0.3),
            _item("depreciation | depreciation expense", 0.3),
            _item("acquisitions | purchase of businesses", 0.25),
        ),
    ),
    Statement(
        ("note on income taxes", "income tax disclosures"),
        (
            _item("current tax provision | current taxes", 0.5),
            _item("deferred taxes | deferred tax provision", 0.2),
            _item("unrecognized tax benefits | uncertain tax positions", 0.4),
            _item("valuation allowance | tax valuation allowance", 0.3),
            _item("effective tax rate | tax rate", 0.3, is_percent=True),
        ),
    ),
    Statement(
        ("note on leases and commitments", "contractual obligations"),
        (
            _item("rent expense | rental costs", 0.4),
            _item("operating leases | operating lease payments", 0.6),
            _item("capital leases | finance leases", 0.3),
            _item("purchase obligations | purchase commitments", 1.0),
            _item("guarantees | financial guarantees", 0.2),
        ),
    ),
    Statement(
        ("note on pension plans", "retirement benefits"),
        (
            _item("benefit obligation | pension obligation", 1.0),
            _item("plan assets | pension assets", 0.8),
            _item("service cost | pension service cost", 0.1),
            _item("employer contributions | company contributions", 0.15),
            _item("benefits paid | benefit payments", 0.2),
            _item("discount rate | assumed discount rate", 0.12, is_percent=True),
        ),
    ),
    Statement(
        ("note on debt", "borrowings and credit facilities"),
        (
            _item("senior notes | unsecured notes", 1.0),
            _item("term loan | bank loan", 0.6),
            _item("commercial paper | short term borrowings", 0.3),
            _item("credit facility | revolving credit", 0.4),
            _item("debt issuance costs | financing fees", 0.05),
            _item("average interest rate | average borrowing rate", 0.12, is_percent=True),
        ),
    ),
    Statement(
        ("note on intangible assets", "goodwill and other intangibles"),
        (
            _item("goodwill | acquired goodwill", 1.0),
            _item("trademarks | brand names", 0.5),
            _item("customer relationships | customer lists", 0.4),
            _item("patents | patented technology", 0.3),
            _item("amortization expense | amortization", 0.1),
        ),
    ),
)

QUESTION_FORMS: dict[str, tuple[str, ...]] = {
    "lookup": (
        "what was the {a} of {who} in {y1} ?",
        "how much {a} did {who} report for {y1} ?",
        "what {a} did {who} have in {y1} ?",
    ),
    "difference": (
        "what was the change in {a} of {who} from {y0} to {y1} ?",
        "by how much did {a} of {who} change between {y0} and {y1} ?",
    ),
    "percent_change": (
        "what was the percent change in {a} of {who} from {y0} to {y1} ?",
        "by what percentage did {a} of {who} grow from {y0} to {y1} ?",
    ),
    "ratio": (
        "what was the ratio of {a} to {b} of {who} in {y1} ?",
        "for {who} in {y1} , what was {a} divided by {b} ?",
    ),
    "sum": (
        "what was the total of {a} and {b} of {who} in {y1} ?",
        "how much were {a} and {b} of {who} together in {y1} ?",
    ),
    "average": (
        "what was the average {a} of {who} in {y0} and {y1} ?",
        "for {who} , what was the average of {a} over {y0} and {y1} ?",
    ),
}

OPENINGS = (
    "{who} {year} annual report {title} ( in {unit} )",
    "{who} {title} for fiscal {year} ( in {unit} )",
)
SEGMENT_OPENINGS = (
    "{who} {year} annual report {segment} {title} ( in {unit} )",
    "{who} {segment} {title} for fiscal {year} ( in {unit} )",
)
CLOSINGS = (
    "amounts are presented in accordance with accounting principles .",
    "see the accompanying notes for further details .",
    "certain prior amounts were adjusted to the current presentation .",
    "management expects similar conditions in the coming year .",
    "the figures above were audited by an independent firm .",
)
