"""Plan in, QDQ graph out."""
