# SPDX-License-Identifier: Apache-2.0
"""The REST API: operations as a table, and the application that serves the table.

`operation` is the vocabulary in which entity modules (`http/machines.py`, …) list what they offer;
`application` turns the table into routes, the OpenAPI document and the audit; nothing else knows
HTTP.
"""
