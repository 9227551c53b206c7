# SPDX-License-Identifier: Apache-2.0
"""Numbers of the specification (part 2), under its names without the prefix."""

from typing import Final

SHA256_BYTES: Final = 32

# TPM_ST: what follows a header
ST_NO_SESSIONS: Final = 0x8001
ST_SESSIONS: Final = 0x8002

# TPM_CC
CC_STARTUP: Final = 0x144
CC_CREATE_PRIMARY: Final = 0x131
CC_CREATE: Final = 0x153
CC_LOAD: Final = 0x157
CC_UNSEAL: Final = 0x15E
CC_FLUSH_CONTEXT: Final = 0x165
CC_LOAD_EXTERNAL: Final = 0x167
CC_POLICY_AUTHORIZE: Final = 0x16A
CC_START_AUTH_SESSION: Final = 0x176
CC_VERIFY_SIGNATURE: Final = 0x177
CC_PCR_READ: Final = 0x17E
CC_POLICY_PCR: Final = 0x17F
CC_PCR_EXTEND: Final = 0x182

# TPM_RH, TPM_RS
RH_OWNER: Final = 0x40000001
RH_NULL: Final = 0x40000007
RS_PASSWORD: Final = 0x40000009
RH_ENDORSEMENT: Final = 0x4000000B

# TPM_ALG
ALG_RSA: Final = 0x0001
ALG_AES: Final = 0x0006
ALG_KEYEDHASH: Final = 0x0008
ALG_SHA256: Final = 0x000B
ALG_NULL: Final = 0x0010
ALG_RSASSA: Final = 0x0014
ALG_ECC: Final = 0x0023
ALG_CFB: Final = 0x0043
ECC_NIST_P256: Final = 0x0003

# TPM_SE
SE_HMAC: Final = 0x00
SE_POLICY: Final = 0x01

# TPMA_SESSION
SESSION_CONTINUE: Final = 0x01
SESSION_DECRYPT: Final = 0x20  # the TPM decrypts the first parameter of the command
SESSION_ENCRYPT: Final = 0x40  # the TPM encrypts the first parameter of the response

# TPMA_OBJECT
FIXED_TPM: Final = 1 << 1
FIXED_PARENT: Final = 1 << 4
SENSITIVE_DATA_ORIGIN: Final = 1 << 5
USER_WITH_AUTH: Final = 1 << 6
ADMIN_WITH_POLICY: Final = 1 << 7
NO_DICTIONARY_ATTACKS: Final = 1 << 10  # wrong tries neither count nor are refused in a lockout
RESTRICTED: Final = 1 << 16
DECRYPT: Final = 1 << 17
SIGN: Final = 1 << 18
