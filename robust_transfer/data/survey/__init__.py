"""Survey of a data set: its description, and unusual properties to check before training."""

from robust_transfer.data.survey.describe import describe_data
from robust_transfer.data.survey.description import DataDescription
from robust_transfer.data.survey.sheet import check_sheet, write_contact_sheet

__all__ = ["DataDescription", "check_sheet", "describe_data", "write_contact_sheet"]
