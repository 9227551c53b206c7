# SPDX-License-Identifier: Apache-2.0
"""Every operation of metal-api v0.45 is there: who may call it, how it answers, what it leaves.

From the OpenAPI document of that release and its audit filters; additions of ours are not named.
"""

from metropolis.metal.http.table import OPERATIONS

# id | method and path | least role | status of success | whether it leaves rows in the audit
TABLE = """
findAuditTraces | POST /v1/audit/find | view | 200 | -
listFilesystemLayouts | GET /v1/filesystemlayout | view | 200 | -
updateFilesystemLayout | POST /v1/filesystemlayout | admin | 200 | audited
createFilesystemLayout | PUT /v1/filesystemlayout | admin | 201 | audited
matchFilesystemLayout | POST /v1/filesystemlayout/matches | admin | 200 | -
tryFilesystemLayout | POST /v1/filesystemlayout/try | admin | 200 | -
deleteFilesystemLayout | DELETE /v1/filesystemlayout/{id} | admin | 200 | audited
getFilesystemLayout | GET /v1/filesystemlayout/{id} | view | 200 | -
listFirewalls | GET /v1/firewall | view | 200 | -
allocateFirewall | POST /v1/firewall/allocate | edit | 200 | audited
findFirewalls | POST /v1/firewall/find | view | 200 | -
findFirewall | GET /v1/firewall/{id} | view | 200 | -
listFirmwares | GET /v1/firmware | admin | 200 | -
removeFirmware | DELETE /v1/firmware/{kind}/{vendor}/{board}/{revision} | admin | 200 | audited
uploadFirmware | PUT /v1/firmware/{kind}/{vendor}/{board}/{revision} | admin | 200 | audited
health | GET /v1/health | none | 200 | -
listImages | GET /v1/image | any | 200 | -
updateImage | POST /v1/image | admin | 200 | audited
createImage | PUT /v1/image | admin | 201 | audited
findImages | POST /v1/image/find | view | 200 | -
deleteImage | DELETE /v1/image/{id} | admin | 200 | audited
findImage | GET /v1/image/{id} | any | 200 | -
findLatestImage | GET /v1/image/{id}/latest | any | 200 | -
queryImages by id | GET /v1/image/{id}/query | any | 200 | -
listIPs | GET /v1/ip | view | 200 | -
updateIP | POST /v1/ip | edit | 200 | audited
allocateIP | POST /v1/ip/allocate | edit | 201 | audited
allocateSpecificIP | POST /v1/ip/allocate/{ip} | edit | 201 | audited
findIPs | POST /v1/ip/find | view | 200 | -
freeIP | DELETE /v1/ip/free/{id} | edit | 200 | audited
findIP | GET /v1/ip/{id} | view | 200 | -
listMachines | GET /v1/machine | view | 200 | -
updateMachine | POST /v1/machine | admin | 200 | audited
allocateMachine | POST /v1/machine/allocate | edit | 200 | audited
getMachineConsolePassword | GET /v1/machine/consolepassword | edit | 200 | audited
findMachines | POST /v1/machine/find | view | 200 | -
ipmiReport | POST /v1/machine/ipmi | edit | 200 | audited
findIPMIMachines | POST /v1/machine/ipmi/find | view | 200 | -
listIssues | GET /v1/machine/issues | view | 200 | -
issues | POST /v1/machine/issues/evaluate | view | 200 | audited
updateFirmware | POST /v1/machine/update-firmware/{id} | admin | 200 | audited
deleteMachine | DELETE /v1/machine/{id} | admin | 200 | audited
findMachine | GET /v1/machine/{id} | view | 200 | -
freeMachine | DELETE /v1/machine/{id}/free | edit | 200 | audited
findIPMIMachine | GET /v1/machine/{id}/ipmi | view | 200 | -
machineBios | POST /v1/machine/{id}/power/bios | edit | 200 | audited
chassisIdentifyLEDOff | POST /v1/machine/{id}/power/chassis-identify-led-off | edit | 200 | audited
chassisIdentifyLEDOn | POST /v1/machine/{id}/power/chassis-identify-led-on | edit | 200 | audited
machineCycle | POST /v1/machine/{id}/power/cycle | edit | 200 | audited
machineDisk | POST /v1/machine/{id}/power/disk | edit | 200 | audited
machineOff | POST /v1/machine/{id}/power/off | edit | 200 | audited
machineOn | POST /v1/machine/{id}/power/on | edit | 200 | audited
machinePxe | POST /v1/machine/{id}/power/pxe | edit | 200 | audited
machineReset | POST /v1/machine/{id}/power/reset | edit | 200 | audited
reinstallMachine | POST /v1/machine/{id}/reinstall | edit | 200 | audited
setMachineState | POST /v1/machine/{id}/state | edit | 200 | audited
listNetworks | GET /v1/network | view | 200 | -
updateNetwork | POST /v1/network | admin | 200 | audited
createNetwork | PUT /v1/network | admin | 201 | audited
allocateNetwork | POST /v1/network/allocate | edit | 201 | audited
findNetworks | POST /v1/network/find | view | 200 | -
freeNetwork | DELETE /v1/network/free/{id} | edit | 200 | audited
freeNetworkDeprecated | POST /v1/network/free/{id} | edit | 200 | audited
deleteNetwork | DELETE /v1/network/{id} | admin | 200 | audited
findNetwork | GET /v1/network/{id} | view | 200 | -
listPartitions | GET /v1/partition | any | 200 | -
updatePartition | POST /v1/partition | admin | 200 | audited
createPartition | PUT /v1/partition | admin | 201 | audited
partitionCapacity | POST /v1/partition/capacity | any | 200 | -
deletePartition | DELETE /v1/partition/{id} | admin | 200 | audited
findPartition | GET /v1/partition/{id} | any | 200 | -
listProjects | GET /v1/project | view | 200 | -
updateProject | POST /v1/project | admin | 200 | audited
createProject | PUT /v1/project | admin | 201 | audited
findProjects | POST /v1/project/find | view | 200 | -
deleteProject | DELETE /v1/project/{id} | admin | 200 | audited
findProject | GET /v1/project/{id} | view | 200 | -
listSizes | GET /v1/size | any | 200 | -
updateSize | POST /v1/size | admin | 200 | audited
createSize | PUT /v1/size | admin | 201 | audited
listSizeImageConstraints | GET /v1/size-image-constraint | any | 200 | -
updateSizeImageConstraint | POST /v1/size-image-constraint | admin | 200 | audited
createSizeImageConstraint | PUT /v1/size-image-constraint | admin | 201 | audited
trySizeImageConstraint | POST /v1/size-image-constraint/try | admin | 200 | -
deleteSizeImageConstraint | DELETE /v1/size-image-constraint/{id} | admin | 200 | audited
findSizeImageConstraint | GET /v1/size-image-constraint/{id} | any | 200 | -
listSizeReservations | GET /v1/size/reservations | any | 200 | -
updateSizeReservation | POST /v1/size/reservations | edit | 200 | audited
createSizeReservation | PUT /v1/size/reservations | edit | 201 | audited
findSizeReservations | POST /v1/size/reservations/find | any | 200 | -
sizeReservationsUsage | POST /v1/size/reservations/usage | any | 200 | -
deleteSizeReservation | DELETE /v1/size/reservations/{id} | edit | 200 | audited
getSizeReservation | GET /v1/size/reservations/{id} | any | 200 | -
suggest | POST /v1/size/suggest | any | 200 | -
deleteSize | DELETE /v1/size/{id} | admin | 200 | audited
findSize | GET /v1/size/{id} | any | 200 | -
listSwitches | GET /v1/switch | any | 200 | -
updateSwitch | POST /v1/switch | admin | 200 | audited
findSwitches | POST /v1/switch/find | view | 200 | -
migrateSwitch | POST /v1/switch/migrate | admin | 200 | audited
registerSwitch | POST /v1/switch/register | edit | 200 | audited
deleteSwitch | DELETE /v1/switch/{id} | edit | 200 | audited
findSwitch | GET /v1/switch/{id} | any | 200 | -
notifySwitch | POST /v1/switch/{id}/notify | edit | 200 | -
toggleSwitchPort | POST /v1/switch/{id}/port | admin | 200 | audited
listTenants | GET /v1/tenant | view | 200 | -
updateTenant | POST /v1/tenant | admin | 200 | audited
createTenant | PUT /v1/tenant | admin | 201 | audited
findTenants | POST /v1/tenant/find | view | 200 | -
deleteTenant | DELETE /v1/tenant/{id} | admin | 200 | audited
getTenant | GET /v1/tenant/{id} | view | 200 | -
getMe | GET /v1/user/me | view | 200 | -
info | GET /v1/version | none | 200 | -
getVPNAuthKey | POST /v1/vpn/authkey | admin | 200 | audited
"""


def test_every_operation_of_the_original_is_as_it_was() -> None:
    wanted = [tuple(part.strip() for part in row.split("|")) for row in TABLE.strip().splitlines()]
    ours = {
        each.id: (
            each.id,
            f"{each.method} {each.path}",
            each.role.name.lower(),
            str(each.status),
            "audited" if (each.method != "GET" if each.audited is None else each.audited) else "-",
        )
        for each in OPERATIONS
    }
    assert len(wanted) == 114
    assert [ours.get(row[0]) for row in wanted] == wanted
