"""The consumer's suite on the light broker.

What it cannot do is told on Apache Kafka alone (test_apache_kafka_source.py): a position that is not in the log (it
answers with silence), retention and deleted records, compaction, transactions, partitions added, a true end by
ListOffsets, TLS, SASL and ACLs.
"""

from __future__ import annotations

from typing import Any

import pytest
from kafka_source_suite import Broker, KafkaSourceSuite


@pytest.mark.kafka
class TestLightKafkaSource(KafkaSourceSuite):
    @pytest.fixture(scope="class")
    @classmethod
    def server(cls, broker: Any) -> Broker:
        return broker
