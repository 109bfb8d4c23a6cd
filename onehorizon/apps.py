from django.contrib.admin import apps


class OperatorsConfig(apps.AdminConfig):
    """Django's admin, on our site instead of its own."""

    default = False  # it is the admin's, not this package's
    default_site = "onehorizon.operators.OperatorsSite"
