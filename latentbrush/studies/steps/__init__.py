"""How many network calls a picture needs: every sampler, by its pictures and by its solver's error."""

from latentbrush.studies.steps.routes import ROUTES, Route, parse_routes
from latentbrush.studies.steps.study import StepsStudy

__all__ = ["ROUTES", "Route", "StepsStudy", "parse_routes"]
