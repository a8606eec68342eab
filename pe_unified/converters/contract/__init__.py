"""What a converted set holds: COCO records, splits, and what is checked of them."""
