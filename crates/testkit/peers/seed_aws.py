"""Fills an AWS double (moto) with good and bad resources of every type that the plugin `aws` reads.

    python seed_aws.py http://127.0.0.1:PORT

Prints {"account", "nodes": {type: [node id, ...]}, "edges": [[source, type, target], ...], "secrets": [...]}: what a collection must find,
and values that it must not store. Stops at the first call that fails.
"""

import base64
import json
import sys

import boto3
from botocore.config import Config

URL = sys.argv[1]
REGION = "eu-west-1"
nodes, edges = {}, []
SECRETS = ["planted-lambda-env-0001", "planted-ecs-env-0002", "planted-user-data-0003", "planted-stack-param-0004", "planted-webhook-0005",
           "planted-stage-var-0006", "planted-secret-value-0007", "planted-parameter-0008", "planted-template-data-0009"]


def client(service, region=REGION):
    return boto3.client(service, region_name=region, endpoint_url=URL, aws_access_key_id="AKIDEXAMPLESEED0", aws_secret_access_key="seed",
                        config=Config(retries={"max_attempts": 1}, inject_host_prefix=False))


ACCOUNT = client("sts").get_caller_identity()["Account"]


def named(service, what):
    return f"arn:aws:{service}:{REGION}:{ACCOUNT}:{what}"


def node(kind, resource, region=REGION):
    found = f"aws:{region}:{kind}:{resource}"
    nodes.setdefault(kind, []).append(found)
    return found


def edge(source, kind, target):
    edges.append([source, kind, target])


def policy(action="*", resource="*", effect="Allow", **more):
    return json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": effect, "Action": action, "Resource": resource, **more}]})


def trust(service):
    return json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}]})


def identity():
    account = node("aws.account", ACCOUNT, "global")
    iam = client("iam")
    iam.create_account_alias(AccountAlias="cairn-test")
    iam.update_account_password_policy(MinimumPasswordLength=8)
    node("aws.iam.password_policy", ACCOUNT, "global")
    node("aws.iam.account_summary", ACCOUNT, "global")
    group = node("aws.iam.group", iam.create_group(GroupName="admins")["Group"]["Arn"], "global")
    iam.attach_group_policy(GroupName="admins", PolicyArn="arn:aws:iam::aws:policy/AdministratorAccess")
    managed = node("aws.iam.policy", "arn:aws:iam::aws:policy/AdministratorAccess", "global")
    edge(managed, "attached_to", group)
    admin = node("aws.iam.policy", iam.create_policy(PolicyName="everything", PolicyDocument=policy())["Policy"]["Arn"], "global")
    good = iam.create_policy(PolicyName="narrow", PolicyDocument=policy("s3:GetObject", "arn:aws:s3:::hardened/*"))["Policy"]["Arn"]
    node("aws.iam.policy", good, "global")
    bob = node("aws.iam.user", iam.create_user(UserName="bob", Tags=[{"Key": "team", "Value": "ops"}])["User"]["Arn"], "global")
    iam.create_login_profile(UserName="bob", Password="Planted-password-1!")
    SECRETS.append("Planted-password-1!")
    key = iam.create_access_key(UserName="bob")["AccessKey"]
    SECRETS.append(key["SecretAccessKey"])
    edge(node("aws.iam.access_key", key["AccessKeyId"], "global"), "attached_to", bob)
    iam.add_user_to_group(GroupName="admins", UserName="bob")
    edge(bob, "member_of", group)
    iam.attach_user_policy(UserName="bob", PolicyArn=f"arn:aws:iam::{ACCOUNT}:policy/everything")
    edge(admin, "attached_to", bob)
    iam.put_user_policy(UserName="bob", PolicyName="inline", PolicyDocument=policy("ec2:*"))
    edge(node("aws.iam.inline_policy", f"arn:aws:iam::{ACCOUNT}:user/bob/inline", "global"), "attached_to", bob)
    iam.put_group_policy(GroupName="admins", PolicyName="group-inline", PolicyDocument=policy("ec2:*"))
    node("aws.iam.inline_policy", f"arn:aws:iam::{ACCOUNT}:group/admins/group-inline", "global")
    ann = node("aws.iam.user", iam.create_user(UserName="ann")["User"]["Arn"], "global")
    device = iam.create_virtual_mfa_device(VirtualMFADeviceName="ann")["VirtualMFADevice"]["SerialNumber"]
    iam.enable_mfa_device(UserName="ann", SerialNumber=device, AuthenticationCode1="123456", AuthenticationCode2="654321")
    edge(node("aws.iam.mfa_device", f"{ACCOUNT}/{device}", "global"), "attached_to", ann)
    node("aws.iam.virtual_mfa_device", device, "global")
    node("aws.iam.credential_report_user", f"arn:aws:iam::{ACCOUNT}:user/bob", "global")
    role = node("aws.iam.role", iam.create_role(RoleName="web", AssumeRolePolicyDocument=trust("ec2.amazonaws.com"))["Role"]["Arn"], "global")
    iam.attach_role_policy(RoleName="web", PolicyArn=good)
    edge(f"aws:global:aws.iam.policy:{good}", "attached_to", role)
    iam.put_role_policy(RoleName="web", PolicyName="inline", PolicyDocument=policy("s3:*"))
    profile = iam.create_instance_profile(InstanceProfileName="web-profile")["InstanceProfile"]["Arn"]
    iam.add_role_to_instance_profile(InstanceProfileName="web-profile", RoleName="web")
    edge(node("aws.iam.instance_profile", profile, "global"), "executes_as", role)
    node("aws.iam.saml_provider", iam.create_saml_provider(Name="corp", SAMLMetadataDocument="m" * 1024)["SAMLProviderArn"], "global")
    oidc = iam.create_open_id_connect_provider(Url="https://oidc.example.com", ThumbprintList=["a" * 40], ClientIDList=["c"])
    node("aws.iam.oidc_provider", oidc["OpenIDConnectProviderArn"], "global")
    certificate = iam.upload_server_certificate(ServerCertificateName="old", CertificateBody="body", PrivateKey="planted-private-key-0010")
    SECRETS.append("planted-private-key-0010")
    node("aws.iam.server_certificate", certificate["ServerCertificateMetadata"]["Arn"], "global")
    for name in ("lambda", "ecs-tasks", "eks", "config"):
        node("aws.iam.role", iam.create_role(RoleName=name, AssumeRolePolicyDocument=trust(f"{name}.amazonaws.com"))["Role"]["Arn"], "global")
    client("account").put_alternate_contact(AlternateContactType="SECURITY", EmailAddress="sec@example.com", Name="Sec", PhoneNumber="1", Title="CISO")
    org = client("organizations")
    made = org.create_organization(FeatureSet="ALL")["Organization"]
    node("aws.organizations.organization", made["Id"], "global")
    node("aws.organizations.account", org.list_accounts()["Accounts"][0]["Arn"], "global")
    return account, role, profile


def keys():
    kms = client("kms")
    good = kms.create_key(Description="rotates", Policy=policy("kms:*", Principal={"AWS": f"arn:aws:iam::{ACCOUNT}:root"}))["KeyMetadata"]
    kms.enable_key_rotation(KeyId=good["KeyId"])
    kms.create_alias(AliasName="alias/data", TargetKeyId=good["KeyId"])
    bad = kms.create_key(Description="does not rotate")["KeyMetadata"]
    alias = node("aws.kms.alias", f"arn:aws:kms:{REGION}:{ACCOUNT}:alias/data")
    key = node("aws.kms.key", good["Arn"])
    node("aws.kms.key", bad["Arn"])
    edge(alias, "associated_with", key)
    return key, good["Arn"]


def buckets(account, key, key_arn):
    s3 = client("s3")
    place = {"LocationConstraint": REGION}
    for name in ("public", "hardened", "logs-bucket"):
        s3.create_bucket(Bucket=name, CreateBucketConfiguration=place, ObjectLockEnabledForBucket=name == "hardened")
        edge(account, "contains", node("aws.s3.bucket", name, "global"))
    client("s3", "us-east-1").create_bucket(Bucket="in-virginia")
    node("aws.s3.bucket", "in-virginia", "global")
    s3.put_bucket_acl(Bucket="public", ACL="public-read")
    s3.put_bucket_policy(Bucket="public", Policy=policy("s3:GetObject", "arn:aws:s3:::public/*", Principal="*"))
    s3.put_bucket_website(Bucket="public", WebsiteConfiguration={"IndexDocument": {"Suffix": "index.html"}})
    s3.put_bucket_cors(Bucket="public", CORSConfiguration={"CORSRules": [{"AllowedMethods": ["GET"], "AllowedOrigins": ["*"]}]})
    s3.put_public_access_block(Bucket="hardened", PublicAccessBlockConfiguration={
        "BlockPublicAcls": True, "IgnorePublicAcls": True, "BlockPublicPolicy": True, "RestrictPublicBuckets": True})
    s3.put_bucket_encryption(Bucket="hardened", ServerSideEncryptionConfiguration={"Rules": [
        {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": key_arn}, "BucketKeyEnabled": True}]})
    edge("aws:global:aws.s3.bucket:hardened", "encrypted_by", key)
    s3.put_bucket_versioning(Bucket="hardened", VersioningConfiguration={"Status": "Enabled"})
    s3.put_bucket_acl(Bucket="logs-bucket", GrantWrite="uri=http://acs.amazonaws.com/groups/s3/LogDelivery",
                      GrantReadACP="uri=http://acs.amazonaws.com/groups/s3/LogDelivery")
    s3.put_bucket_logging(Bucket="hardened", BucketLoggingStatus={"LoggingEnabled": {"TargetBucket": "logs-bucket", "TargetPrefix": "h/"}})
    edge("aws:global:aws.s3.bucket:hardened", "logs_to", "aws:global:aws.s3.bucket:logs-bucket")
    s3.put_bucket_ownership_controls(Bucket="hardened", OwnershipControls={"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]})
    s3.put_bucket_lifecycle_configuration(Bucket="hardened", LifecycleConfiguration={"Rules": [
        {"ID": "old", "Status": "Enabled", "Filter": {"Prefix": ""}, "Expiration": {"Days": 30}}]})
    s3.put_bucket_tagging(Bucket="hardened", Tagging={"TagSet": [{"Key": "data", "Value": "secret"}]})
    s3.put_bucket_policy(Bucket="hardened", Policy=policy("s3:*", "arn:aws:s3:::hardened/*", "Deny", Principal="*", Condition={"Bool": {"aws:SecureTransport": "false"}}))
    control = client("s3control")
    # The account is a part of the host name, which a loopback address cannot have.
    control.meta.events.register("before-sign.s3-control", lambda request, **_: setattr(request, "url", request.url.replace(ACCOUNT + ".", "", 1)))
    control.put_public_access_block(AccountId=ACCOUNT, PublicAccessBlockConfiguration={
        "BlockPublicAcls": True, "IgnorePublicAcls": True, "BlockPublicPolicy": True, "RestrictPublicBuckets": False})
    node("aws.s3.account_public_access_block", ACCOUNT, "global")


def network(account, role, profile, key, key_arn):
    ec2 = client("ec2")
    vpc_id = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    vpc = node("aws.ec2.vpc", vpc_id)
    edge(account, "contains", vpc)
    made = [ec2.create_subnet(VpcId=vpc_id, CidrBlock=f"10.0.{i}.0/24", AvailabilityZone=f"{REGION}{'ab'[i]}")["Subnet"]["SubnetId"] for i in range(2)]
    subnets = [node("aws.ec2.subnet", s) for s in made]
    for subnet in subnets:
        edge(vpc, "contains", subnet)
    igw_id = ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
    igw = node("aws.ec2.internet_gateway", igw_id)
    ec2.attach_internet_gateway(InternetGatewayId=igw_id, VpcId=vpc_id)
    edge(igw, "attached_to", vpc)
    main = ec2.describe_route_tables(Filters=[{"Name": "vpc-id", "Values": [vpc_id]}])["RouteTables"][0]["RouteTableId"]
    node("aws.ec2.route_table", main)
    own_id = ec2.create_route_table(VpcId=vpc_id)["RouteTable"]["RouteTableId"]
    own = node("aws.ec2.route_table", own_id)
    ec2.create_route(RouteTableId=own_id, DestinationCidrBlock="0.0.0.0/0", GatewayId=igw_id)
    edge(own, "routes_to", igw)
    ec2.associate_route_table(RouteTableId=own_id, SubnetId=made[0])
    edge(subnets[0], "associated_with", own)
    edge(subnets[1], "associated_with", f"aws:{REGION}:aws.ec2.route_table:{main}")
    eip = ec2.allocate_address(Domain="vpc")["AllocationId"]
    address = node("aws.ec2.address", eip)
    nat_id = ec2.create_nat_gateway(SubnetId=made[0], AllocationId=eip)["NatGateway"]["NatGatewayId"]
    nat = node("aws.ec2.nat_gateway", nat_id)
    ec2.create_route(RouteTableId=main, DestinationCidrBlock="0.0.0.0/0", NatGatewayId=nat_id)
    edge(f"aws:{REGION}:aws.ec2.route_table:{main}", "routes_to", nat)
    edge(nat, "depends_on", address)
    node("aws.ec2.egress_only_internet_gateway", ec2.create_egress_only_internet_gateway(VpcId=vpc_id)["EgressOnlyInternetGateway"]["EgressOnlyInternetGatewayId"])
    tgw = ec2.create_transit_gateway()["TransitGateway"]["TransitGatewayId"]
    node("aws.ec2.transit_gateway", tgw)
    attachment = ec2.create_transit_gateway_vpc_attachment(TransitGatewayId=tgw, VpcId=vpc_id, SubnetIds=[made[0]])
    edge(node("aws.ec2.transit_gateway_attachment", attachment["TransitGatewayVpcAttachment"]["TransitGatewayAttachmentId"]), "attached_to", vpc)
    vgw = ec2.create_vpn_gateway(Type="ipsec.1")["VpnGateway"]["VpnGatewayId"]
    ec2.attach_vpn_gateway(VpcId=vpc_id, VpnGatewayId=vgw)
    edge(node("aws.ec2.vpn_gateway", vgw), "attached_to", vpc)
    cgw = ec2.create_customer_gateway(Type="ipsec.1", PublicIp="203.0.113.5", BgpAsn=65000)["CustomerGateway"]["CustomerGatewayId"]
    node("aws.ec2.customer_gateway", cgw)
    node("aws.ec2.vpn_connection", ec2.create_vpn_connection(Type="ipsec.1", CustomerGatewayId=cgw, VpnGatewayId=vgw)["VpnConnection"]["VpnConnectionId"])
    peer = ec2.create_vpc(CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"]
    pcx = ec2.create_vpc_peering_connection(VpcId=vpc_id, PeerVpcId=peer)["VpcPeeringConnection"]["VpcPeeringConnectionId"]
    edge(node("aws.ec2.vpc_peering_connection", pcx), "attached_to", vpc)
    endpoint = ec2.create_vpc_endpoint(VpcId=vpc_id, ServiceName=f"com.amazonaws.{REGION}.s3", RouteTableIds=[own_id])["VpcEndpoint"]["VpcEndpointId"]
    edge(node("aws.ec2.vpc_endpoint", endpoint), "attached_to", vpc)
    dhcp = ec2.create_dhcp_options(DhcpConfigurations=[{"Key": "domain-name", "Values": ["example.com"]}])["DhcpOptions"]["DhcpOptionsId"]
    node("aws.ec2.dhcp_options", dhcp)
    open_id = ec2.create_security_group(GroupName="open", Description="open to all", VpcId=vpc_id)["GroupId"]
    opened = node("aws.ec2.security_group", open_id)
    for port in (22, 3389):
        ec2.authorize_security_group_ingress(GroupId=open_id, IpPermissions=[
            {"IpProtocol": "tcp", "FromPort": port, "ToPort": port, "IpRanges": [{"CidrIp": "0.0.0.0/0"}], "Ipv6Ranges": [{"CidrIpv6": "::/0"}]}])
    closed = ec2.create_security_group(GroupName="closed", Description="web only", VpcId=vpc_id)["GroupId"]
    node("aws.ec2.security_group", closed)
    ec2.authorize_security_group_ingress(GroupId=closed, IpPermissions=[{"IpProtocol": "tcp", "FromPort": 443, "ToPort": 443, "IpRanges": [{"CidrIp": "10.0.0.0/8"}]}])
    acl = ec2.create_network_acl(VpcId=vpc_id)["NetworkAcl"]["NetworkAclId"]
    node("aws.ec2.network_acl", acl)
    ec2.create_network_acl_entry(NetworkAclId=acl, RuleNumber=100, Protocol="6", RuleAction="allow", Egress=False, CidrBlock="0.0.0.0/0", PortRange={"From": 22, "To": 22})
    node("aws.ec2.key_pair", f"{ACCOUNT}/" + ec2.create_key_pair(KeyName="laptop")["KeyName"])
    image = ec2.describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
    machine = ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1, InstanceType="t3.micro", KeyName="laptop", UserData="#!/bin/sh\necho " + SECRETS[2],
                                IamInstanceProfile={"Arn": profile}, TagSpecifications=[{"ResourceType": "instance", "Tags": [{"Key": "Name", "Value": "web-1"}]}],
                                NetworkInterfaces=[{"DeviceIndex": 0, "SubnetId": made[0], "Groups": [open_id], "AssociatePublicIpAddress": True}])["Instances"][0]
    instance = node("aws.ec2.instance", machine["InstanceId"])
    edge(subnets[0], "contains", instance)
    edge(opened, "attached_to", instance)
    edge(instance, "executes_as", role)
    edge(instance, "depends_on", f"aws:{REGION}:aws.ec2.key_pair:{ACCOUNT}/laptop")
    eni = node("aws.ec2.network_interface", machine["NetworkInterfaces"][0]["NetworkInterfaceId"])
    edge(opened, "attached_to", eni)
    edge(eni, "attached_to", instance)
    plain = ec2.create_volume(AvailabilityZone=f"{REGION}a", Size=8)["VolumeId"]
    node("aws.ec2.volume", plain)
    sealed = ec2.create_volume(AvailabilityZone=f"{REGION}a", Size=8, Encrypted=True, KmsKeyId=key_arn)["VolumeId"]
    edge(node("aws.ec2.volume", sealed), "encrypted_by", key)
    ec2.attach_volume(VolumeId=plain, InstanceId=machine["InstanceId"], Device="/dev/sdf")
    edge(f"aws:{REGION}:aws.ec2.volume:{plain}", "attached_to", instance)
    shot = ec2.create_snapshot(VolumeId=plain)["SnapshotId"]
    node("aws.ec2.snapshot", shot)
    ec2.modify_snapshot_attribute(SnapshotId=shot, Attribute="createVolumePermission", OperationType="add", GroupNames=["all"])
    node("aws.ec2.image", ec2.create_image(InstanceId=machine["InstanceId"], Name="golden")["ImageId"])
    encoded = base64.b64encode(SECRETS[8].encode()).decode()
    SECRETS.append(encoded)
    template = ec2.create_launch_template(LaunchTemplateName="web", LaunchTemplateData={"ImageId": image, "InstanceType": "t3.micro", "UserData": encoded})
    node("aws.ec2.launch_template", template["LaunchTemplate"]["LaunchTemplateId"])
    node("aws.ec2.account_setting", ACCOUNT)
    return vpc_id, made, open_id, opened, template["LaunchTemplate"]["LaunchTemplateId"]


def logging(role, key, key_arn, vpc_id):
    logs = client("logs")
    logs.create_log_group(logGroupName="/vpc/flow")
    group = node("aws.logs.log_group", named("logs", "log-group:/vpc/flow"))
    logs.put_metric_filter(logGroupName="/vpc/flow", filterName="root", filterPattern="{ $.userIdentity.type = Root }", metricTransformations=[
        {"metricName": "root", "metricNamespace": "cis", "metricValue": "1"}])
    edge(node("aws.logs.metric_filter", f"{ACCOUNT}//vpc/flow/root"), "attached_to", group)
    ec2 = client("ec2")
    flow = ec2.create_flow_logs(ResourceIds=[vpc_id], ResourceType="VPC", TrafficType="REJECT", LogGroupName="/vpc/flow",
                                DeliverLogsPermissionArn=f"arn:aws:iam::{ACCOUNT}:role/web")["FlowLogIds"][0]
    edge(node("aws.ec2.flow_log", flow), "attached_to", f"aws:{REGION}:aws.ec2.vpc:{vpc_id}")
    edge(f"aws:{REGION}:aws.ec2.flow_log:{flow}", "logs_to", group)
    topic_arn = client("sns").create_topic(Name="alarms", Attributes={"KmsMasterKeyId": "alias/data"})["TopicArn"]
    topic = node("aws.sns.topic", topic_arn)
    edge(topic, "encrypted_by", key)
    subscription = client("sns").subscribe(TopicArn=topic_arn, Protocol="https", Endpoint="https://hooks.example/T/" + SECRETS[4], ReturnSubscriptionArn=True)
    edge(node("aws.sns.subscription", f"{ACCOUNT}/{topic_arn}/https/https://hooks.example/" + subscription["SubscriptionArn"].split(":")[-1]), "attached_to", topic)
    client("cloudwatch").put_metric_alarm(AlarmName="root", MetricName="root", Namespace="cis", Statistic="Sum", Period=300, EvaluationPeriods=1,
                                          Threshold=1, ComparisonOperator="GreaterThanOrEqualToThreshold", AlarmActions=[topic_arn])
    edge(node("aws.cloudwatch.alarm", f"arn:aws:cloudwatch:{REGION}:{ACCOUNT}:alarm:root"), "depends_on", topic)
    trail = client("cloudtrail")
    made = trail.create_trail(Name="weak", S3BucketName="logs-bucket", IsMultiRegionTrail=False, EnableLogFileValidation=False)["TrailARN"]
    edge(node("aws.cloudtrail.trail", made), "logs_to", "aws:global:aws.s3.bucket:logs-bucket")
    strong = trail.create_trail(Name="strong", S3BucketName="logs-bucket", IsMultiRegionTrail=True, EnableLogFileValidation=True, KmsKeyId=key_arn,
                                CloudWatchLogsLogGroupArn=f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:/vpc/flow:*", CloudWatchLogsRoleArn=f"arn:aws:iam::{ACCOUNT}:role/config")["TrailARN"]
    edge(node("aws.cloudtrail.trail", strong), "encrypted_by", key)
    edge(f"aws:{REGION}:aws.cloudtrail.trail:{strong}", "logs_to", group)
    trail.put_event_selectors(TrailName="strong", EventSelectors=[{"ReadWriteType": "WriteOnly", "IncludeManagementEvents": True,
                                                                   "DataResources": [{"Type": "AWS::S3::Object", "Values": ["arn:aws:s3"]}]}])
    trail.start_logging(Name="strong")
    config = client("config")
    config.put_configuration_recorder(ConfigurationRecorder={"name": "default", "roleARN": f"arn:aws:iam::{ACCOUNT}:role/config",
                                                             "recordingGroup": {"allSupported": True, "includeGlobalResourceTypes": True}})
    edge(node("aws.config.recorder", f"{ACCOUNT}/default"), "executes_as", f"aws:global:aws.iam.role:arn:aws:iam::{ACCOUNT}:role/config")
    config.put_delivery_channel(DeliveryChannel={"name": "default", "s3BucketName": "logs-bucket"})
    node("aws.config.delivery_channel", f"{ACCOUNT}/default")
    config.start_configuration_recorder(ConfigurationRecorderName="default")
    node("aws.guardduty.detector", named("guardduty", "detector/" + client("guardduty").create_detector(Enable=True)["DetectorId"]))
    client("securityhub").enable_security_hub()
    node("aws.securityhub.hub", ACCOUNT)
    return topic_arn


def data(vpc_id, subnets, open_id, opened, key, key_arn, topic_arn):
    rds = client("rds")
    rds.create_db_subnet_group(DBSubnetGroupName="db", DBSubnetGroupDescription="d", SubnetIds=subnets)
    group = node("aws.rds.subnet_group", named("rds", "subgrp:db"))
    SECRETS.append("planted-db-password-0011")
    rds.create_db_instance(DBInstanceIdentifier="open-db", DBInstanceClass="db.t3.micro", Engine="postgres", MasterUsername="root", MasterUserPassword=SECRETS[-1],
                           AllocatedStorage=20, PubliclyAccessible=True, StorageEncrypted=False, VpcSecurityGroupIds=[open_id], DBSubnetGroupName="db")
    open_db = node("aws.rds.db_instance", named("rds", "db:open-db"))
    edge(opened, "attached_to", open_db)
    edge(open_db, "depends_on", group)
    rds.create_db_instance(DBInstanceIdentifier="good-db", DBInstanceClass="db.t3.micro", Engine="postgres", MasterUsername="root", MasterUserPassword=SECRETS[-1],
                           AllocatedStorage=20, PubliclyAccessible=False, StorageEncrypted=True, KmsKeyId=key_arn)
    edge(node("aws.rds.db_instance", named("rds", "db:good-db")), "encrypted_by", key)
    rds.create_db_cluster(DBClusterIdentifier="cluster", Engine="aurora-postgresql", MasterUsername="root", MasterUserPassword=SECRETS[-1])
    cluster = node("aws.rds.db_cluster", named("rds", "cluster:cluster"))
    rds.create_db_snapshot(DBSnapshotIdentifier="snap", DBInstanceIdentifier="open-db")
    edge(node("aws.rds.db_snapshot", named("rds", "snapshot:snap")), "depends_on", open_db)
    rds.create_db_cluster_snapshot(DBClusterSnapshotIdentifier="csnap", DBClusterIdentifier="cluster")
    edge(node("aws.rds.db_cluster_snapshot", named("rds", "cluster-snapshot:csnap")), "depends_on", cluster)
    client("dynamodb").create_table(TableName="orders", BillingMode="PAY_PER_REQUEST", KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
                                    AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}], SSESpecification={"Enabled": True, "SSEType": "KMS", "KMSMasterKeyId": key_arn})
    edge(node("aws.dynamodb.table", named("dynamodb", "table/orders")), "encrypted_by", key)
    node("aws.efs.file_system", client("efs").create_file_system(CreationToken="t", Encrypted=False)["FileSystemId"])
    client("opensearch").create_domain(DomainName="search", EngineVersion="OpenSearch_2.5")
    node("aws.opensearch.domain", named("es", "domain/search"))
    client("redshift").create_cluster(ClusterIdentifier="dw", NodeType="ra3.xlplus", MasterUsername="root", MasterUserPassword="Planted-pw-0012", NumberOfNodes=2, PubliclyAccessible=True)
    SECRETS.append("Planted-pw-0012")
    node("aws.redshift.cluster", named("redshift", "cluster:dw"))
    cache = client("elasticache")
    cache.create_cache_cluster(CacheClusterId="cache", Engine="redis", NumCacheNodes=1, CacheNodeType="cache.t3.micro")
    node("aws.elasticache.cluster", named("elasticache", "cluster:cache"))
    cache.create_replication_group(ReplicationGroupId="rg", ReplicationGroupDescription="d", Engine="redis", CacheNodeType="cache.t3.micro")
    node("aws.elasticache.replication_group", named("elasticache", "replicationgroup:rg"))
    kinesis = client("kinesis")
    kinesis.create_stream(StreamName="events", ShardCount=1)
    node("aws.kinesis.stream", named("kinesis", "stream/events"))
    sqs = client("sqs")
    dead = sqs.create_queue(QueueName="dead")
    dead_arn = f"arn:aws:sqs:{REGION}:{ACCOUNT}:dead"
    node("aws.sqs.queue", dead_arn)
    sqs.create_queue(QueueName="work", Attributes={"KmsMasterKeyId": "alias/data", "RedrivePolicy": json.dumps({"deadLetterTargetArn": dead_arn, "maxReceiveCount": 5})})
    work = node("aws.sqs.queue", f"arn:aws:sqs:{REGION}:{ACCOUNT}:work")
    edge(work, "encrypted_by", key)
    edge(work, "depends_on", f"aws:{REGION}:aws.sqs.queue:{dead_arn}")
    secret = client("secretsmanager").create_secret(Name="db", SecretString=SECRETS[6], KmsKeyId="alias/data")
    edge(node("aws.secretsmanager.secret", secret["ARN"]), "encrypted_by", key)
    client("ssm").put_parameter(Name="/app/key", Value=SECRETS[7], Type="SecureString", KeyId=key_arn)
    node("aws.ssm.parameter", f"{ACCOUNT}//app/key")
    backup = client("backup")
    backup.create_backup_vault(BackupVaultName="vault")
    node("aws.backup.vault", named("backup", "backup-vault:vault"))
    plan = backup.create_backup_plan(BackupPlan={"BackupPlanName": "daily", "Rules": [{"RuleName": "r", "TargetBackupVaultName": "vault"}]})
    node("aws.backup.plan", plan["BackupPlanArn"])


def compute(vpc_id, subnets, open_id, opened, template):
    import io
    import zipfile
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("f.py", "def h(e, c): pass")
    code = buffer.getvalue()
    role = f"arn:aws:iam::{ACCOUNT}:role/lambda"
    lamb = client("lambda")
    made = lamb.create_function(FunctionName="job", Runtime="python3.11", Role=role, Handler="f.h", Code={"ZipFile": code},
                                Environment={"Variables": {"API_TOKEN": SECRETS[0]}}, Tags={"team": "ops"})["FunctionArn"]
    lamb.add_permission(FunctionName="job", StatementId="all", Action="lambda:InvokeFunction", Principal="*")
    edge(node("aws.lambda.function", made), "executes_as", f"aws:global:aws.iam.role:{role}")
    ecs = client("ecs")
    cluster = node("aws.ecs.cluster", ecs.create_cluster(clusterName="c")["cluster"]["clusterArn"])
    task_role = f"arn:aws:iam::{ACCOUNT}:role/ecs-tasks"
    definition = ecs.register_task_definition(family="web", taskRoleArn=task_role, networkMode="awsvpc", containerDefinitions=[
        {"name": "web", "image": "nginx", "memory": 128, "privileged": True, "environment": [{"name": "DB_PASSWORD", "value": SECRETS[1]}]}])["taskDefinition"]["taskDefinitionArn"]
    edge(node("aws.ecs.task_definition", definition), "executes_as", f"aws:global:aws.iam.role:{task_role}")
    service = ecs.create_service(cluster="c", serviceName="web", taskDefinition="web", desiredCount=1)["service"]["serviceArn"]
    edge(cluster, "contains", node("aws.ecs.service", service))
    eks = client("eks")
    eks.create_cluster(name="k", roleArn=f"arn:aws:iam::{ACCOUNT}:role/eks", resourcesVpcConfig={"subnetIds": subnets})
    kube = node("aws.eks.cluster", named("eks", "cluster/k"))
    group = eks.create_nodegroup(clusterName="k", nodegroupName="n", subnets=subnets, nodeRole=f"arn:aws:iam::{ACCOUNT}:role/eks")["nodegroup"]["nodegroupArn"]
    edge(kube, "contains", node("aws.eks.nodegroup", group))
    node("aws.ecr.repository", client("ecr").create_repository(repositoryName="app", imageScanningConfiguration={"scanOnPush": False})["repository"]["repositoryArn"])
    elb = client("elbv2")
    balancer = elb.create_load_balancer(Name="lb", Subnets=subnets, SecurityGroups=[open_id], Scheme="internet-facing")["LoadBalancers"][0]["LoadBalancerArn"]
    edge(opened, "attached_to", node("aws.elbv2.load_balancer", balancer))
    target = elb.create_target_group(Name="tg", Protocol="HTTP", Port=80, VpcId=vpc_id)["TargetGroups"][0]["TargetGroupArn"]
    tg = node("aws.elbv2.target_group", target)
    listener = elb.create_listener(LoadBalancerArn=balancer, Protocol="HTTP", Port=80, DefaultActions=[{"Type": "forward", "TargetGroupArn": target}])["Listeners"][0]["ListenerArn"]
    edge(node("aws.elbv2.listener", listener), "routes_to", tg)
    scaling = client("autoscaling")
    scaling.create_launch_configuration(LaunchConfigurationName="old", ImageId="ami-12c6146b", InstanceType="t3.micro", UserData=SECRETS[2])
    node("aws.autoscaling.launch_configuration", f"{ACCOUNT}/old")
    scaling.create_auto_scaling_group(AutoScalingGroupName="asg", LaunchConfigurationName="old", MinSize=0, MaxSize=1, VPCZoneIdentifier=subnets[0])
    group = scaling.describe_auto_scaling_groups()["AutoScalingGroups"][0]["AutoScalingGroupARN"]
    edge(node("aws.autoscaling.group", group), "depends_on", f"aws:{REGION}:aws.autoscaling.launch_configuration:{ACCOUNT}/old")
    stack = client("cloudformation").create_stack(StackName="stack", Parameters=[{"ParameterKey": "Password", "ParameterValue": SECRETS[3]}], TemplateBody=json.dumps({
        "Parameters": {"Password": {"Type": "String"}}, "Resources": {"Q": {"Type": "AWS::SQS::Queue", "Properties": {"QueueName": "from-stack"}}}}))
    node("aws.cloudformation.stack", stack["StackId"])


def edge_services():
    dns = client("route53")
    zone = dns.create_hosted_zone(Name="example.com", CallerReference="1")["HostedZone"]["Id"].split("/")[-1]
    dns.change_resource_record_sets(HostedZoneId=zone, ChangeBatch={"Changes": [{"Action": "CREATE", "ResourceRecordSet": {
        "Name": "www.example.com", "Type": "A", "TTL": 60, "ResourceRecords": [{"Value": "203.0.113.9"}]}}]})
    edge(node("aws.route53.hosted_zone", zone, "global"), "contains", node("aws.route53.record_set", f"{zone}/www.example.com./A/-", "global"))
    cdn = client("cloudfront").create_distribution(DistributionConfig={
        "CallerReference": "1", "Comment": "", "Enabled": True,
        "Origins": {"Quantity": 1, "Items": [{"Id": "o", "DomainName": "public.s3.amazonaws.com", "S3OriginConfig": {"OriginAccessIdentity": ""}}]},
        "DefaultCacheBehavior": {"TargetOriginId": "o", "ViewerProtocolPolicy": "allow-all", "MinTTL": 0, "ForwardedValues": {"QueryString": False, "Cookies": {"Forward": "none"}}}})
    edge(node("aws.cloudfront.distribution", cdn["Distribution"]["Id"], "global"), "depends_on", "aws:global:aws.s3.bucket:public")
    node("aws.acm.certificate", client("acm").request_certificate(DomainName="example.com")["CertificateArn"])
    api = client("apigateway")
    rest = api.create_rest_api(name="api")["id"]
    root = api.get_resources(restApiId=rest)["items"][0]["id"]
    api.put_method(restApiId=rest, resourceId=root, httpMethod="GET", authorizationType="NONE")
    api.put_integration(restApiId=rest, resourceId=root, httpMethod="GET", type="MOCK")
    api.put_method_response(restApiId=rest, resourceId=root, httpMethod="GET", statusCode="200")
    api.put_integration_response(restApiId=rest, resourceId=root, httpMethod="GET", statusCode="200")
    deployment = api.create_deployment(restApiId=rest)["id"]
    api.create_stage(restApiId=rest, stageName="prod", deploymentId=deployment, variables={"token": SECRETS[5]})
    edge(node("aws.apigateway.rest_api", rest), "contains", node("aws.apigateway.stage", f"{rest}/prod"))


def main():
    account, role, profile = identity()
    key, key_arn = keys()
    buckets(account, key, key_arn)
    vpc_id, subnets, open_id, opened, template = network(account, role, profile, key, key_arn)
    topic_arn = logging(role, key, key_arn, vpc_id)
    data(vpc_id, subnets, open_id, opened, key, key_arn, topic_arn)
    compute(vpc_id, subnets, open_id, opened, template)
    edge_services()
    print(json.dumps({"account": ACCOUNT, "region": REGION, "nodes": nodes, "edges": edges, "secrets": SECRETS}))


main()
