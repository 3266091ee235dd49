"""What local servers of batch APIs have in common: an account with batches, files, time, faults and books.

A vendor's server is a subclass of :class:`~batchor_core.testing.local_server.server.LocalServer` that gives it two things:

- a :class:`~batchor_core.testing.local_server.protocol.Protocol`, the vendor's words for a row, a key and an error;
- routes over the :class:`~batchor_core.testing.local_server.engine.Engine`: ``files.put`` takes requests, uploaded or inline, as
  lines with ``custom_id`` and ``body``; ``batches.create`` makes a batch of them, and ``look``, ``listed``, ``settled``,
  ``cancel`` and ``content`` show it.

``testing/openai_server`` is one.
"""
