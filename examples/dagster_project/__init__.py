"""A Dagster project: dictionary glosses become learner's cards, one batch run per topic."""

from examples.dagster_project.definitions import defs as defs
