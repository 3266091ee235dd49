"""What local servers of batch APIs have in common: an account with batches, files, time, faults and books.

A vendor's server is a :class:`~batchor_core.testing.local_server.protocol.Protocol` over it and a subclass of
:class:`~batchor_core.testing.local_server.server.LocalServer`; ``testing/openai_server`` is one.
"""
