"""What every report and figure says of itself."""

RESEARCH_LINE = "Research software, not a medical device"
