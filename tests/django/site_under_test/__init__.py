"""A small real site, as somebody would write it who has never heard of Weir."""
