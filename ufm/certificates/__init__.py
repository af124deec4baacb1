"""What can be proved of a point: lower bounds, second-order tests, verdicts, ways down."""
