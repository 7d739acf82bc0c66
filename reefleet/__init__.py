"""One model on a whole fleet of unequal boards, learning where the data is."""
