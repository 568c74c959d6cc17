"""The bookstore of `meshctl demo`: four small web services, their mesh configuration, and samples to apply to it."""
