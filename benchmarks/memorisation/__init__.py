"""What scores cost and how good they are, beside the packages that people use for them."""
