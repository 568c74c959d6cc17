"""The bookstore demo."""
