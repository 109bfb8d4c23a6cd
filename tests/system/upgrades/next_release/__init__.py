"""An app with the migrations of an imaginary next release, for the tests of `migrate`."""
