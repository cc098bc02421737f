"""The machinery of `check`: reading a formula, computing the truth from first principles, finding what is off."""
