# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in for an i-Reporter server: test equipment that speaks the product's public API over a real database.

It is not the product, shares no code with it, and knows nothing of migrations.
"""
