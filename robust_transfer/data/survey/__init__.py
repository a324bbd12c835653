"""Survey of a data set: what was understood of it, and what about it is worth a look before anything is trained."""

from robust_transfer.data.survey.describe import describe_data
from robust_transfer.data.survey.description import DataDescription
from robust_transfer.data.survey.sheet import check_sheet, write_contact_sheet

__all__ = ["DataDescription", "check_sheet", "describe_data", "write_contact_sheet"]
