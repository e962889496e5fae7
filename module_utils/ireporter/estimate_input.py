"""What the estimate of a cloud → self-hosted migration is made of; the quote and the gates take the same."""

from __future__ import annotations

from dataclasses import dataclass

from .data_total import DataTotal, data_total
from .estimate_samples import read_earlier, read_samples
from .estimate_time import FLOW, Estimate, estimate
from .plan_facts import Facts
from .plan_webdav import webdav_tree


@dataclass(frozen=True)
class Throughput:
    """Measured throughput: :func:`estimate_samples.read_samples`, :func:`estimate_samples.read_earlier`, :data:`estimate_time.FLOW`."""

    samples: object = ()
    earlier: object = ()
    flow: object = None

    def estimate(self, data: DataTotal) -> Estimate:
        """
        :raises MigrationError: the time cannot be known (R03).
        """
        return estimate(data, read_samples(self.samples), read_earlier(self.earlier), self.flow or FLOW)


@dataclass(frozen=True)
class EstimateInput:
    """``assessment``: a result of ``ireporter_tenant_info``. ``webdav_tree``: name of the file tree that stays behind, or the word ``none``."""

    assessment: Facts
    webdav_tree: object
    throughput: Throughput

    def estimate(self) -> Estimate:
        """First the total amount of data, then the time (R03).

        :raises MigrationError: one of them cannot be known (R03), or what stays behind (R09).
        """
        data = data_total(self.assessment)
        tree = webdav_tree(self.webdav_tree, self.assessment)
        return self.throughput.estimate(data.without(tree.text("name") if tree else None))
