"""The format of a converted set: COCO records, splits, and their checks."""
